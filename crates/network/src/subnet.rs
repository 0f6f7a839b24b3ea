//! An address range in CIDR notation, of either family, and the arithmetic on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range: an address (perhaps with host bits) and the length of the prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// The address as it was given.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl Net {
    /// A range; none if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Net { address, prefix })
    }

    /// Whether it is of IPv4.
    pub fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Its first address as a number.
    pub fn first(&self) -> u128 {
        number(self.address) & !self.host_mask()
    }

    /// Its last address as a number.
    pub fn last(&self) -> u128 {
        self.first() | self.host_mask()
    }

    /// Without host bits.
    #[must_use]
    pub fn masked(&self) -> Net {
        Net { address: self.at(self.first()), prefix: self.prefix }
    }

    /// The address with this number in the family of the range.
    pub fn at(&self, number: u128) -> IpAddr {
        address(number, self.is_v4())
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4() && (self.first()..=self.last()).contains(&number(address))
    }

    /// Whether all of another range is in it.
    pub fn covers(&self, other: &Net) -> bool {
        self.is_v4() == other.is_v4() && self.first() <= other.first() && other.last() <= self.last()
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Net) -> bool {
        self.is_v4() == other.is_v4() && self.first() <= other.last() && other.first() <= self.last()
    }

    /// The numbers that a host may have: in IPv4 neither the first (the network) nor the last (broadcast), unless the
    /// range is a pair or a single address (RFC 3021); in IPv6 not the first (the routers' anycast address).
    pub fn hosts(&self) -> std::ops::RangeInclusive<u128> {
        match (self.is_v4(), bits(self.address) - self.prefix) {
            (_, 0 | 1) => self.first()..=self.last(),
            (true, _) => self.first() + 1..=self.last() - 1,
            (false, _) => self.first() + 1..=self.last(),
        }
    }

    fn host_mask(&self) -> u128 {
        let host_bits = u32::from(bits(self.address) - self.prefix);
        if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with that number.
pub fn address(number: u128, v4: bool) -> IpAddr {
    match v4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

impl FromStr for Net {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| plain).ok_or(())?;
        Net::new(address.parse().map_err(drop)?, prefix).ok_or(())
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format!("{text:?} is no address range")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_contain_and_overlap() {
        let range = net("172.17.0.1/16");
        assert_eq!(range.masked().to_string(), "172.17.0.0/16");
        assert!(range.contains("172.17.255.255".parse().unwrap()) && !range.contains("172.18.0.0".parse().unwrap()));
        assert!(range.covers(&net("172.17.3.0/24")) && !net("172.17.3.0/24").covers(&range));
        assert!(net("172.17.3.0/24").overlaps(&range) && !range.overlaps(&net("fd00::/8")));
        assert!(net("0.0.0.0/0").contains("9.9.9.9".parse().unwrap()) && net("::/0").covers(&net("fd00::/64")));
    }

    #[test]
    fn hosts_leave_out_network_and_broadcast() {
        let count = |text: &str| net(text).hosts().count();
        assert_eq!((count("10.0.0.0/30"), count("10.0.0.0/31"), count("10.0.0.7/32")), (2, 2, 1));
        assert_eq!(count("fd00::/126"), 3);
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "x/8"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
