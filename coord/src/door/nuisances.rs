//! Addresses whose connections break protocols again and again: they are shut out for
//! a while, before any handshake, since to find that out once more costs more than it
//! costs them. Pure: the time comes with each question.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use crate::bounds::{
    NUISANCES_MAX, OFFENCES_AT_ONCE_MAX, OFFENCES_PER_S_MAX, SHUT_OUT_MS_MAX, SHUT_OUT_MS_MIN,
};
use crate::door::bucket::{Bucket, has_room};

#[derive(Debug, Clone, Copy)]
struct Record {
    /// A token for each offence that is borne.
    borne: Bucket,
    shut_until_ms: u64,
    /// Milliseconds for which the address was shut out last.
    shut_ms: u64,
}

impl Record {
    /// Whether nothing is lost when the record is forgotten: the address has been quiet for
    /// as long as it could be shut out.
    fn is_past(&self, now_ms: u64) -> bool {
        now_ms >= self.borne.looked_ms().max(self.shut_until_ms) + SHUT_OUT_MS_MAX
    }
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Nuisances {
    // What peers choose is hashed with a secret.
    known: HashMap<IpAddr, Record>,
}

/// The key under which an address is known: those of one network of IPv6 are one peer's.
/// `None`: this machine's own processes, which can do it worse harm, and share one address
/// with all others here.
pub fn peer_key(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Some(IpAddr::V6(Ipv6Addr::from_bits(network)))
        }
    }
}

impl Nuisances {
    /// A connection of `address` broke a protocol. Gives for how many milliseconds it
    /// is shut out, if it is from now on.
    pub fn note(&mut self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let key = peer_key(address)?;
        let is_past = |record: &Record| record.is_past(now_ms);
        if !has_room(&mut self.known, &key, NUISANCES_MAX, is_past) {
            return None;
        }
        let borne = Bucket::new(OFFENCES_AT_ONCE_MAX, OFFENCES_PER_S_MAX, now_ms);
        let fresh = Record {
            borne,
            shut_until_ms: 0,
            shut_ms: 0,
        };
        let record = self.known.entry(key).or_insert(fresh);
        if record.is_past(now_ms) {
            *record = fresh;
        }
        // Connections that were there before are still dropped one by one.
        if record.borne.take(1, now_ms) || now_ms < record.shut_until_ms {
            return None;
        }
        record.borne = borne;
        record.shut_ms = (record.shut_ms * 2).clamp(SHUT_OUT_MS_MIN, SHUT_OUT_MS_MAX);
        record.shut_until_ms = now_ms + record.shut_ms;
        Some(record.shut_ms)
    }

    /// Whether a new connection of `address` is not looked at.
    pub fn is_shut_out(&self, address: IpAddr, now_ms: u64) -> bool {
        let record = peer_key(address).and_then(|key| self.known.get(&key));
        record.is_some_and(|record| now_ms < record.shut_until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: usize = OFFENCES_AT_ONCE_MAX as usize;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Offends until it is shut out; how often that was, and for how long it is.
    fn offend(nuisances: &mut Nuisances, text: &str, now_ms: u64) -> Option<(usize, u64)> {
        (1..=2 * AT_ONCE).find_map(|times| {
            let shut_ms = nuisances.note(address(text), now_ms)?;
            Some((times, shut_ms))
        })
    }

    #[test]
    fn some_are_borne_and_then_none_for_a_while_and_longer_each_time() {
        let mut nuisances = Nuisances::default();
        let (mut now_ms, mut shut_ms) = (0, SHUT_OUT_MS_MIN);
        for _ in 0..10 {
            let found = offend(&mut nuisances, "10.0.0.1", now_ms);
            assert_eq!(found, Some((AT_ONCE + 1, shut_ms)));
            assert!(nuisances.is_shut_out(address("10.0.0.1"), now_ms + shut_ms - 1));
            assert!(!nuisances.is_shut_out(address("10.0.0.1"), now_ms + shut_ms));
            assert!(!nuisances.is_shut_out(address("10.0.0.2"), now_ms));
            now_ms += shut_ms;
            shut_ms = (2 * shut_ms).min(SHUT_OUT_MS_MAX);
        }
        // After a long silence it is a stranger again.
        now_ms += 2 * SHUT_OUT_MS_MAX;
        let found = offend(&mut nuisances, "10.0.0.1", now_ms);
        assert_eq!(found, Some((AT_ONCE + 1, SHUT_OUT_MS_MIN)));
    }

    #[test]
    fn what_happens_now_and_then_is_forgotten() {
        let mut nuisances = Nuisances::default();
        let pause_ms = (2e3 / OFFENCES_PER_S_MAX) as u64;
        for times in 0..10 * AT_ONCE as u64 {
            assert_eq!(nuisances.note(address("10.0.0.1"), times * pause_ms), None);
        }
    }

    #[test]
    fn a_network_is_one_and_this_machine_is_none() {
        let mut nuisances = Nuisances::default();
        for number in 0..=AT_ONCE {
            let one = address(&format!("2001:db8::{number:x}"));
            nuisances.note(one, 0);
        }
        assert!(nuisances.is_shut_out(address("2001:db8::ffff"), 0));
        assert!(!nuisances.is_shut_out(address("2001:db8:1::1"), 0));
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(offend(&mut nuisances, own, 0), None, "{own}");
        }
        assert!(offend(&mut nuisances, "::ffff:10.0.0.9", 0).is_some());
        assert!(nuisances.is_shut_out(address("10.0.0.9"), 0));
    }

    #[test]
    fn so_many_are_known() {
        let mut nuisances = Nuisances::default();
        let nth = |number: usize| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number as u32));
        for number in 0..NUISANCES_MAX + 10 {
            nuisances.note(nth(number), 0);
        }
        assert_eq!(nuisances.known.len(), NUISANCES_MAX);
        nuisances.note(nth(1 << 20), SHUT_OUT_MS_MAX);
        assert_eq!(nuisances.known.len(), 1);
    }
}
