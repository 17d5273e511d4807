//! The list of those whom tokens were given to or who showed one, for the operator's
//! eyes: nothing is decided by it, since tokens are derived and not looked up. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use hg_proto::secure::token::{Role, holder_is_well_formed};
use hg_proto::table::table;
use serde::{Deserialize, Serialize};

use crate::trust::auth::Holder;

/// Names that the list has room for.
pub const NAMES_MAX: usize = 65_536;

/// What is known of the tokens of one name and role, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    /// When the newest was made; 0: a certificate of the operator's own was shown.
    issued_s: u64,
    /// When the last of them ends; 0: never, or not by us.
    expires_s: u64,
    /// When one was shown last; 0: never.
    seen_s: u64,
}

/// See the top of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenList {
    names: BTreeMap<String, BTreeMap<Role, Entry>>,
}

/// An entry of the file.
#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    role: String,
    issued_s: u64,
    expires_s: u64,
    seen_s: u64,
}

impl TokenList {
    /// What [`TokenList::to_bytes`] made.
    ///
    /// # Errors
    /// In words: it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lines: Vec<Written> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut list = TokenList::default();
        for line in lines.into_iter().take(2 * NAMES_MAX) {
            let role = Role::from_name(&line.role);
            let role = role.filter(|_| holder_is_well_formed(&line.name));
            let role = role.ok_or("a role or a name that there can't be")?;
            let entry = Entry {
                issued_s: line.issued_s,
                expires_s: line.expires_s,
                seen_s: line.seen_s,
            };
            list.names.entry(line.name).or_default().insert(role, entry);
        }
        Ok(list)
    }

    /// The list as it is written to disk: JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines = self.names.iter().flat_map(|(name, roles)| {
            roles.iter().map(|(role, entry)| Written {
                name: name.clone(),
                role: role.name().to_owned(),
                issued_s: entry.issued_s,
                expires_s: entry.expires_s,
                seen_s: entry.seen_s,
            })
        });
        // Text and numbers can be written.
        serde_json::to_vec(&lines.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// Whether nobody is in the list.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether somebody of that name was given a token here, or showed one.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// When the newest token of that name was made, as far as is known.
    pub fn newest_s(&self, name: &str) -> Option<u64> {
        let roles = self.names.get(name)?.values();
        roles.map(|entry| entry.issued_s).max()
    }

    /// `holder` was given a token. What its name had until `revoked_s` does not count
    /// any more.
    pub fn give(&mut self, holder: &Holder, revoked_s: u64) {
        self.add(holder, 0, revoked_s);
    }

    /// `holder` was let in at `now_s`.
    pub fn see(&mut self, holder: &Holder, now_s: u64) {
        self.add(holder, now_s, 0);
    }

    /// Takes over all that `newer` has.
    pub fn merge(&mut self, newer: &TokenList, revoked: &BTreeMap<String, u64>) {
        for (name, roles) in &newer.names {
            let revoked_s = revoked.get(name).copied().unwrap_or(0);
            for (role, entry) in roles {
                self.put(name, *role, *entry, revoked_s);
            }
        }
    }

    fn add(&mut self, holder: &Holder, seen_s: u64, revoked_s: u64) {
        let entry = Entry {
            issued_s: holder.issued_s.unwrap_or(0),
            expires_s: holder.expires_s,
            seen_s,
        };
        self.put(&holder.name, holder.role, entry, revoked_s);
    }

    fn put(&mut self, name: &str, role: Role, new: Entry, revoked_s: u64) {
        if !self.names.contains_key(name) {
            self.make_room();
            self.names.insert(name.to_owned(), BTreeMap::new());
        }
        let Some(roles) = self.names.get_mut(name) else {
            return;
        };
        let Some(old) = roles.get_mut(&role) else {
            roles.insert(role, new);
            return;
        };
        let seen_s = old.seen_s.max(new.seen_s);
        if old.issued_s <= revoked_s && revoked_s < new.issued_s {
            *old = new;
        } else {
            old.issued_s = old.issued_s.max(new.issued_s);
            old.expires_s = match (old.expires_s, new.expires_s) {
                (0, _) | (_, 0) => 0,
                (one, other) => one.max(other),
            };
        }
        old.seen_s = seen_s;
    }

    /// Forgets who was neither given a token nor seen for the longest time.
    fn make_room(&mut self) {
        while self.names.len() >= NAMES_MAX {
            let used_s = |roles: &BTreeMap<Role, Entry>| {
                let times = roles.values().map(|entry| entry.seen_s.max(entry.issued_s));
                times.max().unwrap_or(0)
            };
            let oldest = self.names.iter().min_by_key(|(_, roles)| used_s(roles));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            self.names.remove(&name);
        }
    }

    /// For people: a line for each name and role, and one for each name that is
    /// revoked and has none.
    pub fn table(&self, revoked: &BTreeMap<String, u64>, now_s: u64) -> String {
        let head = ["NAME", "ROLE", "GIVEN", "EXPIRES", "LAST SEEN", "STATE"];
        let mut rows = vec![head.map(str::to_owned)];
        for (name, roles) in &self.names {
            for (role, entry) in roles {
                rows.push(row(name, *role, *entry, revoked.get(name).copied(), now_s));
            }
        }
        for (name, revoked_s) in revoked {
            if !self.has(name) {
                let state = format!("revoked {}, never given", date(*revoked_s));
                let dash = || "-".to_owned();
                rows.push([name.clone(), dash(), dash(), dash(), dash(), state]);
            }
        }
        table(&rows)
    }
}

fn row(name: &str, role: Role, entry: Entry, revoked_s: Option<u64>, now_s: u64) -> [String; 6] {
    let Entry {
        issued_s,
        expires_s,
        seen_s,
    } = entry;
    let state = match revoked_s {
        Some(revoked_s) if issued_s <= revoked_s => format!("revoked {}", date(revoked_s)),
        _ if expires_s != 0 && expires_s <= now_s => "expired".to_owned(),
        _ => "good".to_owned(),
    };
    let or = |time_s: u64, word: &str| match time_s {
        0 => word.to_owned(),
        time_s => date(time_s),
    };
    [
        name.to_owned(),
        role.name().to_owned(),
        or(issued_s, "certificate"),
        or(expires_s, "never"),
        or(seen_s, "never"),
        state,
    ]
}

fn date(time_s: u64) -> String {
    // The last second of the year 9999: what is later can't be written.
    let since = Duration::from_secs(time_s.min(253_402_300_799));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, issued_s: u64, expires_s: u64) -> Holder {
        Holder {
            role: Role::Client,
            name: name.to_owned(),
            issued_s: (issued_s != 0).then_some(issued_s),
            key: None,
            expires_s,
        }
    }

    fn lines(list: &TokenList, revoked: &[(&str, u64)], now_s: u64) -> Vec<String> {
        let revoked = revoked.iter().map(|(name, at)| ((*name).to_owned(), *at));
        let table = list.table(&revoked.collect(), now_s);
        let rows = table.lines().skip(1);
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn each_name_and_role_has_a_line() {
        let mut list = TokenList::default();
        list.give(&holder("me", 1_000, 0), 0);
        list.give(&holder("short", 1_000, 2_000), 0);
        list.see(&holder("me", 1_000, 0), 1_500);
        list.see(&holder("own", 0, 0), 1_600);
        assert_eq!(
            lines(&list, &[("me", 1_000), ("typo", 1_700)], 2_000),
            [
                "me client 1970-01-01T00:16:40Z never 1970-01-01T00:25:00Z revoked 1970-01-01T00:16:40Z",
                "own client certificate never 1970-01-01T00:26:40Z good",
                "short client 1970-01-01T00:16:40Z 1970-01-01T00:33:20Z never expired",
                "typo - - - - revoked 1970-01-01T00:28:20Z, never given",
            ]
        );
        assert_eq!(TokenList::parse(&list.to_bytes()), Ok(list));
    }

    #[test]
    fn a_new_token_after_a_revocation_stands_for_those_before_it() {
        let mut list = TokenList::default();
        list.give(&holder("me", 1_000, 0), 0);
        list.give(&holder("me", 3_001, 5_000), 3_000);
        let line = &lines(&list, &[("me", 3_000)], 4_000)[0];
        assert!(line.contains("01:23:20Z never good"), "{line}");
        // Of two that both hold, the later end counts.
        list.give(&holder("me", 3_500, 4_000), 3_000);
        assert!(lines(&list, &[], 4_500)[0].ends_with("good"));
        list.give(&holder("me", 3_600, 0), 3_000);
        assert!(lines(&list, &[], 9_000)[0].ends_with("never never good"));
        assert_eq!(list.newest_s("me"), Some(3_600));
    }

    #[test]
    fn what_was_seen_meanwhile_is_taken_over() {
        let mut list = TokenList::default();
        list.give(&holder("me", 1_000, 0), 0);
        let mut seen = TokenList::default();
        seen.see(&holder("me", 1_000, 0), 2_000);
        seen.see(&holder("older", 500, 0), 2_100);
        list.merge(&seen, &BTreeMap::new());
        assert_eq!(lines(&list, &[], 3_000).len(), 2);
        assert!(lines(&list, &[], 3_000)[0].contains("never 1970-01-01T00:33:20Z"));
        assert!(list.has("older") && !list.has("nobody"));
    }

    #[test]
    fn it_is_bounded_and_the_longest_unused_go() {
        let mut list = TokenList::default();
        for number in 0..NAMES_MAX as u64 {
            list.give(&holder(&format!("n{number}"), 1_000 + number, 0), 0);
        }
        list.see(&holder("n0", 1_000, 0), u64::MAX);
        list.give(&holder("one-more", 5_000, 0), 0);
        assert!(list.has("n0") && list.has("one-more") && !list.has("n1"));
        assert!(TokenList::parse(b"[{\"name\":\"a b\",\"role\":\"client\",\"issued_s\":1,\"expires_s\":0,\"seen_s\":0}]").is_err());
    }
}
