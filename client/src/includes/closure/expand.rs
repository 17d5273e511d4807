//! Looks for the headers whose names macros make. Conditions are not evaluated, so every
//! definition of a macro counts.

use foldhash::HashMap;
use hg_proto::options::args::Reason;

use super::{COMPUTED_INCLUDE, Walk, reason};
use crate::includes::headers::MacroQuery;
use crate::includes::macro_names::{SPELLED_MAX, values_of};
use crate::includes::part::Part;
use crate::includes::paths::parent;
use crate::source::hazards;
use crate::source::scan::{self, Header};

impl Walk<'_> {
    /// Looks for the headers that macros name, by every definition: a macro without one can
    /// only be an error.
    pub(super) fn follow_macros(&mut self) -> Result<(), Reason> {
        let macros = self.command_line();
        loop {
            // Where the header that is meant is no input, another of that name may be.
            if let Some(path) = &self.computed.pasted {
                return Err(reason(COMPUTED_INCLUDE, path));
            }
            let known = self.files.parts.len();
            let mut headers = Vec::new();
            for (path, name) in &self.computed.macros {
                let macros = macros
                    .iter()
                    .map(|text| Ok(MacroQuery::Named.of(text, name)));
                let read = self
                    .files
                    .parts
                    .iter_mut()
                    .map(|part| part.query(MacroQuery::Named, name));
                for named in macros.chain(read) {
                    let named = named?.ok_or_else(|| reason(COMPUTED_INCLUDE, path))?;
                    headers.extend(named.into_iter().map(|header| (path.clone(), header)));
                }
            }
            for (path, header) in headers {
                if !header.quoted && !scan::is_clean(&header.name) {
                    return Err(reason(COMPUTED_INCLUDE, &path));
                }
                self.note_brackets(&path, &header);
                self.header(parent(&path), &header.name, header.quoted, false)?;
            }
            while let Some(path) = self.queue.pop_front() {
                self.file(path)?;
            }
            if self.files.parts.len() == known {
                return Ok(());
            }
        }
    }

    /// Looks for the headers that macros ask for, wherever those macros are used.
    pub(super) fn follow_askers(&mut self) -> Result<(), Reason> {
        let mut askers = Vec::new();
        loop {
            askers.append(&mut self.computed.askers);
            let mut parts = std::mem::take(&mut self.files.parts);
            let asked = self
                .ask_all(&askers, &mut parts)
                .and_then(|()| self.ask_bracketed(&mut parts));
            // With what was learnt up to an error.
            self.files.parts = parts;
            asked?;
            let known = self.files.parts.len();
            let asks = !askers.is_empty() || !self.computed.bracketed.is_empty();
            while let Some(path) = self.queue.pop_front() {
                self.file(path.clone())?;
                // It could use those macros too, and include what they name.
                if self.files.parts.len() > known && asks && !self.input.for_worker {
                    self.computed.unclear = Some(path);
                }
            }
            if self.files.parts.len() == known || !self.input.for_worker {
                return Ok(());
            }
            if self.input.listed.paths.is_empty() {
                self.follow_macros()?;
            }
        }
    }

    /// Looks for what `askers` are given in `parts`.
    fn ask_all(&mut self, askers: &[Vec<u8>], parts: &mut [Part]) -> Result<(), Reason> {
        let macros = self.command_line();
        for asker in askers {
            let unclear = |line: &Vec<u8>| MacroQuery::Asked.of(line, asker).is_none();
            if macros.iter().any(unclear) {
                self.computed.unclear = Some(b"-D".to_vec());
            }
            for part in &mut *parts {
                let ask = match hazards::is_system(&part.path) {
                    true => MacroQuery::AskedWhole,
                    false => MacroQuery::Asked,
                };
                let Some(asks) = part.query(ask, asker)? else {
                    self.computed.unclear = Some(part.path.clone());
                    continue;
                };
                for header in asks {
                    self.note_brackets(&part.path, &header);
                    self.header(parent(&part.path), &header.name, header.quoted, false)?;
                }
            }
        }
        Ok(())
    }

    /// Notes a name in angle brackets that `path` gives a macro: its words are expanded too.
    fn note_brackets(&mut self, path: &[u8], header: &Header) {
        if !header.quoted {
            self.computed
                .bracketed
                .insert(header.name.clone(), path.to_vec());
        }
    }

    /// Looks for the headers that names in angle brackets mean where a macro replaces one of
    /// their words.
    fn ask_bracketed(&mut self, parts: &mut [Part]) -> Result<(), Reason> {
        let macros = self.command_line();
        let own = &self.input.search_path.macros;
        let mut names: Vec<_> = self.computed.bracketed.clone().into_iter().collect();
        let mut values: HashMap<Vec<u8>, Option<Vec<Header>>> = HashMap::default();
        while let Some((name, path)) = names.pop() {
            if !scan::is_clean(&name) {
                self.computed.unclear = Some(path);
                continue;
            }
            for word in scan::words_of(&name) {
                if !values.contains_key(word) {
                    let found = values_of(word, own, &macros, parts)?;
                    values.insert(word.to_vec(), found);
                }
                let Some(found) = &values[word] else {
                    self.computed.unclear = Some(path.clone());
                    continue;
                };
                for value in found {
                    let meant = scan::replaced(&name, word, &value.name);
                    if self.computed.bracketed.len() >= SPELLED_MAX {
                        self.computed.unclear = Some(path.clone());
                    } else if !self.computed.bracketed.contains_key(&meant) {
                        self.header(b"", &meant, false, false)?;
                        self.computed.bracketed.insert(meant.clone(), path.clone());
                        names.push((meant, path.clone()));
                    }
                }
            }
        }
        Ok(())
    }
}
