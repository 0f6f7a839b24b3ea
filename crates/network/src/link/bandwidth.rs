//! Limits of an endpoint's bandwidth: a token bucket (tc-tbf(8)) on the device by which packets leave. What the container
//! sends is held back at its own end of the pair, what it is sent at the host's.

use linux::netlink::{ACK, Batch, CREATE, REPLACE};

use crate::model::{Driver, Endpoint};

/// `TC_H_ROOT`: the device's own queue.
const ROOT: u32 = 0xffff_ffff;
/// Packets reach the queue in one piece of up to this size (generic segmentation offload).
const LARGEST: u64 = 64 << 10;
/// The bucket holds what the rate gives in a hundredth of a second.
const BURSTS: u64 = 100;
/// Packets wait for up to a tenth of a second before they are dropped.
const WAITS: u64 = 10;

/// What the container sends. The caller is in its namespace.
pub(super) fn inside(batch: &mut Batch, index: u32, endpoint: &Endpoint) {
    if endpoint.egress > 0 {
        limit(batch, index, endpoint.egress);
    }
}

/// What the container is sent: `index` is the host's end of its pair.
pub(super) fn outside(batch: &mut Batch, index: u32, endpoint: &Endpoint) {
    if endpoint.ingress > 0 && endpoint.network.driver == Driver::Bridge {
        limit(batch, index, endpoint.ingress);
    }
}

/// Lets packets leave a device at `rate` bytes a second.
fn limit(batch: &mut Batch, index: u32, rate: u64) {
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const PARMS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    const ETHERNET: u8 = 1;
    let burst = (rate / BURSTS).clamp(LARGEST, u64::from(u32::MAX) / 4);
    let waiting = u32::try_from(burst + rate / WAITS).unwrap_or(u32::MAX);
    // struct tcmsg: family, three bytes of padding, device, handle, parent, info.
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec: cell_log, link layer, overhead, cell_align, mpu,
    // rate), limit, buffer, mtu.
    let mut parameters = [0; 36];
    parameters[1] = ETHERNET;
    parameters[8..12].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    parameters[24..28].copy_from_slice(&waiting.to_ne_bytes());
    batch.message(libc::RTM_NEWQDISC, ACK | CREATE | REPLACE, &header).put_text(TCA_KIND, "tbf");
    batch.nest(TCA_OPTIONS, |options| {
        options.put(PARMS, &parameters).put(BURST, &(burst as u32).to_ne_bytes());
        if u32::try_from(rate).is_err() {
            options.put(RATE64, &rate.to_ne_bytes());
        }
    });
}
