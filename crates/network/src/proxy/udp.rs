//! UDP: for each client a socket of its own towards the container, by which the answers find back, until both have been
//! silent for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, recvfrom, send, sendto};

use super::stream::open;
use super::{Route, Token};
use crate::poll::Poll;

/// Clients of one container at a time; a further one takes the place of the one that has been silent longest.
const MOST: usize = 1024;
/// Silence after which a client is forgotten (as with Docker's proxy).
const IDLE: Duration = Duration::from_secs(90);
/// Datagrams that are handed on before others get a turn.
const BURST: usize = 64;
/// Longest datagram.
const LONGEST: usize = 65535;

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    slots: Vec<Option<Client>>,
    /// Which slot a client of a route has.
    known: HashMap<(usize, SocketAddr), usize>,
    generation: u32,
    /// No client can have been silent for too long before then.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    generation: u32,
    route: usize,
    address: SocketAddr,
    container: OwnedFd,
    active: Instant,
}

impl Datagrams {
    /// Takes what clients sent to a route.
    pub(super) fn arrive(&mut self, number: usize, route: &Route, poll: &Poll<Token>, now: Instant) {
        let mut buffer = vec![0; LONGEST];
        for _ in 0..BURST {
            let Ok((length, _, from)) = recvfrom(&route.socket, &mut buffer[..], RecvFlags::empty()) else { return };
            let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
            let Some(client) = self.client(number, route, from, poll, now) else { continue };
            client.active = now;
            // What cannot be sent is lost, as datagrams are.
            let _ = send(&client.container, &buffer[..length], SendFlags::NOSIGNAL);
        }
    }

    fn client(
        &mut self,
        number: usize,
        route: &Route,
        from: SocketAddr,
        poll: &Poll<Token>,
        now: Instant,
    ) -> Option<&mut Client> {
        if let Some(slot) = self.known.get(&(number, from)) {
            return self.slots[*slot].as_mut();
        }
        let container = open(route, SocketType::DGRAM, Some(from)).ok()?;
        connect(&container, &route.target).ok()?;
        let slot = self.free_slot();
        self.generation = self.generation.wrapping_add(1);
        let token = Token::Flow { slot: slot as u16, generation: self.generation };
        poll.watch(&container, token, true, false).ok()?;
        self.known.insert((number, from), slot);
        self.next.get_or_insert(now + IDLE);
        let client = Client { generation: self.generation, route: number, address: from, container, active: now };
        Some(self.slots[slot].insert(client))
    }

    fn free_slot(&mut self) -> usize {
        if let Some(slot) = self.slots.iter().position(Option::is_none) {
            return slot;
        }
        if self.slots.len() < MOST {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        let idlest = (0..MOST).min_by_key(|slot| self.slots[*slot].as_ref().map(|client| client.active));
        let slot = idlest.unwrap_or(0);
        self.forget(slot);
        slot
    }

    fn forget(&mut self, slot: usize) {
        if let Some(client) = self.slots[slot].take() {
            self.known.remove(&(client.route, client.address));
        }
    }

    /// The container answers a client.
    pub(super) fn answer(&mut self, slot: u16, generation: u32, routes: &[Route], now: Instant) {
        let client = self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut);
        let Some(client) = client.filter(|client| client.generation == generation) else { return };
        let Some(route) = routes.get(client.route) else { return };
        let mut buffer = vec![0; LONGEST];
        for _ in 0..BURST {
            // An error is that nobody listens there; the client finds out by silence, as it would without us.
            let Ok((length, _)) = recv(&client.container, &mut buffer[..], RecvFlags::empty()) else { return };
            client.active = now;
            let _ = sendto(&route.socket, &buffer[..length], SendFlags::NOSIGNAL, &client.address);
        }
    }

    /// When the next client may have been silent for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Forgets clients that have been silent for too long.
    pub(super) fn close_idle(&mut self, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|client| client.active + IDLE <= now) {
                self.forget(slot);
            }
        }
        self.next = self.slots.iter().flatten().map(|client| client.active + IDLE).min();
        if self.next.is_none() {
            (self.slots, self.known) = (Vec::new(), HashMap::new());
        }
    }
}
