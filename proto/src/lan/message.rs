//! The two messages of DNS (RFC 1035, section 4) that it takes to find a service: the
//! question who offers it, and the answers. Pure. What is read is anybody's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a name (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Bytes of one label of it.
const LABEL_BYTES_MAX: usize = 63;
/// Records of a message that are looked at.
const RECORDS_MAX: usize = 128;
/// Bytes of a message's head.
const HEAD_BYTES: usize = 12;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_TXT: u16 = 16;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;
/// The bit beside the class that says that older records are void (RFC 6762, section 10.2).
const CACHE_FLUSH: u16 = 1 << 15;
/// In the flags of a question: the server is to find the answer, wherever it is.
const FLAG_RECURSION: u16 = 1 << 8;
/// In the flags: it is an answer, and what must be zero in one that is good.
const FLAG_ANSWER: u16 = 1 << 15;
const FLAGS_BAD: u16 = 0x780f;

/// A name as it stands in messages, in small letters: each label behind its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// `text` with its dots, as in `_http._tcp.local.`; `None`: it is none.
    pub fn of(text: &str) -> Option<Self> {
        let mut bytes = Vec::new();
        for label in text.trim_end_matches('.').split('.') {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return None;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        bytes.push(0);
        (bytes.len() <= NAME_BYTES_MAX).then_some(Name(bytes))
    }

    /// As the name of a host (RFC 1123, section 2.1); `None`: it can't be one.
    fn host(&self) -> Option<String> {
        let mut labels = Vec::new();
        let mut rest = self.0.as_slice();
        while let [length, tail @ ..] = rest
            && *length > 0
        {
            let (label, behind) = tail.split_at_checked(usize::from(*length))?;
            let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            labels.push(
                str::from_utf8(label)
                    .ok()
                    .filter(|_| label.iter().all(is_of_host))?,
            );
            rest = behind;
        }
        (!labels.is_empty()).then(|| labels.join("."))
    }
}

/// An instance of a service, as far as one message says it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The port.
    pub port: u16,
    /// The addresses of its host.
    pub addresses: Vec<IpAddr>,
    /// The text record's strings.
    text: Vec<Vec<u8>>,
}

impl Instance {
    /// The value of `key` in the text record (RFC 6763, section 6.4): the first one counts.
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut values = self.text.iter().filter_map(|string| {
            let at = string.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&string[..at], &string[at + 1..]);
            name.eq_ignore_ascii_case(key.as_bytes()).then_some(value)
        });
        values.next().and_then(|value| str::from_utf8(value).ok())
    }
}

/// The question who offers `service`, under a number that answers repeat.
pub fn question(service: &Name, number: u16) -> Vec<u8> {
    asked(service, TYPE_PTR, number, 0)
}

/// The question which servers `service` has, for a name server that asks others in its turn.
pub fn servers_question(service: &Name, number: u16) -> Vec<u8> {
    asked(service, TYPE_SRV, number, FLAG_RECURSION)
}

fn asked(name: &Name, kind: u16, number: u16, flags: u16) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [number, flags, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&name.0);
    for word in [kind, CLASS_IN] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message
}

/// The servers of `service`, host and port, the most wanted first, that `message`, the answer
/// to question `number`, names (RFC 2782). `None`: it is no good answer.
pub fn servers(message: &[u8], service: &Name, number: u16) -> Option<Vec<(String, u16)>> {
    let records = records(message, number)?;
    let of_service = records.iter().filter(|record| record.owner == *service);
    let mut servers: Vec<(u16, String, u16)> = of_service
        .filter_map(|record| match &record.data {
            Data::Server(priority, port, target) => Some((*priority, target.host()?, *port)),
            _ => None,
        })
        .collect();
    servers.sort_by_key(|(priority, ..)| *priority);
    let servers = servers.into_iter().map(|(_, host, port)| (host, port));
    Some(servers.collect())
}

/// The instances of `service` that `message`, the answer to question `number`, describes.
/// What is damaged in it is left out.
pub fn instances(message: &[u8], service: &Name, number: u16) -> Vec<Instance> {
    let mut records = records(message, number).unwrap_or_default();
    // With no time to live it says goodbye (RFC 6762, section 10.1).
    records.retain(|record| record.ttl_s > 0);
    let named = records.iter().filter_map(|record| match &record.data {
        Data::Pointer(name) if record.owner == *service => Some(name),
        _ => None,
    });
    named.filter_map(|name| instance(&records, name)).collect()
}

fn instance(records: &[Record], name: &Name) -> Option<Instance> {
    let of_name = || records.iter().filter(|record| record.owner == *name);
    let (port, target) = of_name().find_map(|record| match &record.data {
        Data::Server(_, port, target) => Some((*port, target)),
        _ => None,
    })?;
    let text = of_name().find_map(|record| match &record.data {
        Data::Text(strings) => Some(strings.clone()),
        _ => None,
    })?;
    let addresses = records.iter().filter_map(|record| match record.data {
        Data::Address(address) if record.owner == *target => Some(address),
        _ => None,
    });
    Some(Instance {
        port,
        addresses: addresses.collect(),
        text,
    })
}

struct Record {
    owner: Name,
    ttl_s: u32,
    data: Data,
}

enum Data {
    Pointer(Name),
    /// Priority, port and host.
    Server(u16, u16, Name),
    Text(Vec<Vec<u8>>),
    Address(IpAddr),
}

/// The records of `message` up to where it is damaged; `None`: it is no good answer.
fn records(message: &[u8], number: u16) -> Option<Vec<Record>> {
    let mut reader = Reader { message, at: 0 };
    let (id, flags) = (reader.u16()?, reader.u16()?);
    let is_good = flags & FLAG_ANSWER != 0 && flags & FLAGS_BAD == 0;
    if !is_good || id != number {
        return None;
    }
    let questions = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
    debug_assert_eq!(reader.at, HEAD_BYTES);
    for _ in 0..questions.min(RECORDS_MAX as u16) {
        reader.name()?;
        reader.take(4)?;
    }
    let count: usize = counts.map(usize::from).iter().sum();
    let mut records = Vec::new();
    for _ in 0..count.min(RECORDS_MAX) {
        match reader.record() {
            Some(Some(record)) => records.push(record),
            Some(None) => {}
            None => break,
        }
    }
    Some(records)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A name, with what of it stands earlier in the message (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut name = Vec::new();
        let (mut at, mut end) = (self.at, None);
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length >> 6 {
                0 => {
                    let label = self.message.get(at..=at + length)?;
                    // A length is no letter.
                    name.extend(label.iter().map(|byte| byte.to_ascii_lowercase()));
                    at += 1 + length;
                    if name.len() > NAME_BYTES_MAX {
                        return None;
                    }
                    if length == 0 {
                        self.at = end.unwrap_or(at);
                        return Some(Name(name));
                    }
                }
                3 => {
                    let low = usize::from(*self.message.get(at + 1)?);
                    let to = (length & 0x3f) << 8 | low;
                    end.get_or_insert(at + 2);
                    // Only ever back: there is an end to it.
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
    }

    /// `None`: the message is damaged from here on; `Some(None)`: a record of no use.
    fn record(&mut self) -> Option<Option<Record>> {
        let owner = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = u32::from_be_bytes(self.array()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length)?;
        self.message.get(self.at..end)?;
        let is_of_use = class & !CACHE_FLUSH == CLASS_IN;
        let data = match kind {
            _ if !is_of_use => None,
            TYPE_PTR => self.name().map(Data::Pointer),
            TYPE_SRV => self.server(),
            TYPE_TXT => self.text(end),
            TYPE_A => self
                .array()
                .map(|ip| Data::Address(Ipv4Addr::from(ip).into())),
            TYPE_AAAA => self
                .array::<16>()
                .map(|ip| Data::Address(Ipv6Addr::from(ip).into())),
            _ => None,
        };
        let data = data.filter(|_| self.at == end);
        self.at = end;
        Some(data.map(|data| Record { owner, ttl_s, data }))
    }

    fn server(&mut self) -> Option<Data> {
        let priority = self.u16()?;
        // The weight: there is one coordinator.
        self.take(2)?;
        let port = self.u16()?;
        Some(Data::Server(priority, port, self.name()?))
    }

    fn text(&mut self, end: usize) -> Option<Data> {
        let mut strings = Vec::new();
        while self.at < end {
            let [length] = self.array()?;
            strings.push(self.take(length.into())?.to_vec());
        }
        Some(Data::Text(strings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: u16 = 7;

    fn service() -> Name {
        Name::of("_hg._tcp.local.").unwrap()
    }

    fn record(owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        let mut record = owner.to_vec();
        record.extend_from_slice(&kind.to_be_bytes());
        record.extend_from_slice(&(CLASS_IN | CACHE_FLUSH).to_be_bytes());
        record.extend_from_slice(&ttl_s.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    /// An answer as responders write it, with names that stand earlier in it.
    fn answer(ttl_s: u32) -> Vec<u8> {
        let mut message = question(&service(), NUMBER);
        message[2] = 0x84;
        message[7] = 1;
        message[11] = 4;
        let pointer = |to: usize| [0xc0 | (to >> 8) as u8, to as u8];
        let to_service = pointer(HEAD_BYTES);
        let instance = [b"\x04Grid".as_slice(), &to_service].concat();
        let instance_at = message.len() + 12;
        message.extend(record(&to_service, TYPE_PTR, ttl_s, &instance));
        let to_instance = pointer(instance_at);
        let server = [&[0, 0, 0, 0, 0x23, 0x28][..], b"\x04host\x05local\0"].concat();
        let host_at = message.len() + 12 + 6;
        message.extend(record(&to_instance, TYPE_SRV, 120, &server));
        message.extend(record(
            &to_instance,
            TYPE_TXT,
            120,
            b"\x03a=1\x04B=2x\x03a=9\x01c",
        ));
        message.extend(record(&pointer(host_at), TYPE_A, 120, &[192, 0, 2, 1]));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
        message.extend(record(&pointer(host_at), TYPE_AAAA, 120, &v6));
        message
    }

    #[test]
    fn an_answer_is_understood() {
        let found = instances(&answer(120), &service(), NUMBER);
        let [found] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(found.port, 9000);
        let addresses: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(found.value("a"), Some("1"));
        assert_eq!(found.value("b"), Some("2x"));
        assert_eq!((found.value("c"), found.value("d")), (None, None));
    }

    #[test]
    fn what_is_no_answer_to_the_question_says_nothing() {
        let nothing = |message: &[u8]| instances(message, &service(), NUMBER).is_empty();
        assert!(nothing(&question(&service(), NUMBER)), "a question");
        assert!(instances(&answer(120), &service(), 8).is_empty());
        assert!(instances(&answer(120), &Name::of("_x._tcp.local").unwrap(), 7).is_empty());
        assert!(nothing(&answer(0)), "a goodbye");
        let mut failed = answer(120);
        failed[3] |= 3;
        assert!(nothing(&failed));
    }

    #[test]
    fn whatever_comes_has_an_end() {
        let good = answer(120);
        for len in 0..good.len() {
            instances(&good[..len], &service(), NUMBER);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff, good[at] ^ 1] {
                let mut spoiled = good.clone();
                spoiled[at] = value;
                instances(&spoiled, &service(), NUMBER);
            }
        }
        // A name that leads to itself, and one that grows without end.
        for owner in [&[0xc0, HEAD_BYTES as u8][..], b"\x01a\xc0\x0c"] {
            let mut message = vec![0, 7, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
            message.extend(record(owner, TYPE_PTR, 120, owner));
            assert!(instances(&message, &service(), NUMBER).is_empty());
        }
    }

    #[test]
    fn servers_are_the_most_wanted_first() {
        let mut message = servers_question(&service(), NUMBER);
        // An answer, by a server that would ask others.
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 4;
        let to_service = [0xc0, HEAD_BYTES as u8];
        for (priority, target) in [
            (20, &b"\x04late\0"[..]),
            (10, b"\x05First\x03lan\0"),
            (5, b"\x03a/b\0"),
            // "No such service here."
            (0, b"\0"),
        ] {
            let data = [&[0, priority, 0, 0, 0x23, 0x28], target].concat();
            // Not to be kept, as name servers say of what they themselves know.
            message.extend(record(&to_service, TYPE_SRV, 0, &data));
        }
        let found = servers(&message, &service(), NUMBER);
        let expected = [("first.lan", 9000), ("late", 9000)];
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(found.as_deref(), Some(&expected[..]));
        assert_eq!(servers(&message, &service(), 8), None);
        // No such name.
        message[3] |= 3;
        assert_eq!(servers(&message, &service(), NUMBER), None);
    }

    #[test]
    fn names() {
        assert_eq!(Name::of("A.b"), Some(Name(b"\x01a\x01b\0".to_vec())));
        assert_eq!(Name::of("a..b"), None);
        assert_eq!(Name::of(&"x".repeat(LABEL_BYTES_MAX + 1)), None);
        assert_eq!(Name::of(&"xy.".repeat(100)), None);
    }
}
