//! How fast connections of one address are greeted: a handshake costs the coordinator
//! about what it costs the other end, so whoever begins them without pause would have
//! as much of this machine as of his own. Those beyond the pace wait, and those for
//! whom the wait would be long are dropped. Pure: the time comes with each question.

use core::net::IpAddr;
use std::collections::HashMap;

use crate::bounds::{
    ARRIVAL_ADDRESSES_MAX, ARRIVAL_WAIT_MS_MAX, ARRIVALS_AT_ONCE_MAX, ARRIVALS_PER_S_MAX,
};
use crate::door::bucket::{Bucket, has_room};
use crate::door::nuisances::peer_key;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Arrivals {
    // What peers choose is hashed with a secret.
    known: HashMap<IpAddr, Bucket>,
}

impl Arrivals {
    /// A connection of `address` came. Gives the milliseconds it is to wait for its
    /// handshake; `None`: that is too long, and it does not count.
    pub fn greet_after(&mut self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let Some(key) = peer_key(address) else {
            return Some(0);
        };
        let is_past = |bucket: &Bucket| bucket.left(now_ms) >= ARRIVALS_AT_ONCE_MAX;
        if !has_room(&mut self.known, &key, ARRIVAL_ADDRESSES_MAX, is_past) {
            return Some(0);
        }
        let fresh = || Bucket::new(ARRIVALS_AT_ONCE_MAX, ARRIVALS_PER_S_MAX, now_ms);
        let bucket = self.known.entry(key).or_insert_with(fresh);
        if bucket.owed_ms(now_ms) >= ARRIVAL_WAIT_MS_MAX {
            return None;
        }
        bucket.take(1, now_ms);
        Some(bucket.owed_ms(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const AT_ONCE: usize = ARRIVALS_AT_ONCE_MAX as usize;
    const PER_S: usize = ARRIVALS_PER_S_MAX as usize;

    fn nth(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number as u32))
    }

    /// How long those wait who come at `now_ms` until one is dropped.
    fn waits(arrivals: &mut Arrivals, address: IpAddr, now_ms: u64) -> Vec<u64> {
        let tries = 0..10 * (AT_ONCE + PER_S);
        let waits = tries.map(|_| arrivals.greet_after(address, now_ms));
        waits.map_while(|wait| wait).collect()
    }

    #[test]
    fn some_at_once_then_the_pace_then_none() {
        let mut arrivals = Arrivals::default();
        let first = waits(&mut arrivals, nth(1), 0);
        let late = PER_S * ARRIVAL_WAIT_MS_MAX as usize / 1_000;
        assert_eq!(first.len(), AT_ONCE + late);
        assert!(first[..AT_ONCE].iter().all(|wait| *wait == 0));
        assert!(first[AT_ONCE..].is_sorted());
        assert_eq!(first.last(), Some(&ARRIVAL_WAIT_MS_MAX));
        assert_eq!(arrivals.greet_after(nth(2), 0), Some(0), "another");
        // Who was dropped does not count, so that a second later as many come as in
        // any second.
        assert_eq!(waits(&mut arrivals, nth(1), 1_000).len(), PER_S);
        // After a pause it is a stranger again.
        assert_eq!(waits(&mut arrivals, nth(1), 3_600_000), first);
    }

    #[test]
    fn this_machine_waits_for_nothing() {
        let mut arrivals = Arrivals::default();
        let own = "::ffff:127.0.0.1".parse().expect("an address");
        let waits = waits(&mut arrivals, own, 0);
        assert_eq!(waits.len(), 10 * (AT_ONCE + PER_S));
        assert!(arrivals.known.is_empty());
    }

    #[test]
    fn so_many_are_known() {
        let mut arrivals = Arrivals::default();
        for number in 0..ARRIVAL_ADDRESSES_MAX + 10 {
            assert_eq!(arrivals.greet_after(nth(number), 0), Some(0));
        }
        assert_eq!(arrivals.known.len(), ARRIVAL_ADDRESSES_MAX);
        arrivals.greet_after(nth(1 << 20), 3_600_000);
        assert_eq!(arrivals.known.len(), 1);
    }
}
