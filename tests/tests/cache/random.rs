//! Sequences that nobody thought of: headers in three folders come, go, change and
//! include each other; the command changes too. The same from each seed.

use std::collections::BTreeSet;

use crate::case::{C, Case, Step, case};

/// Sequences.
const SEQUENCES: u64 = 6;
const SEQUENCES_FULL: u64 = 100;
/// Edits in each; a build follows each.
const EDITS: usize = 25;
/// Headers, each of which may be in several folders; one includes only later ones.
const HEADERS: u64 = 4;
/// In the order of `-I`, if nothing is said; the first is the source's own.
const FOLDERS: [&str; 4] = ["", "x/", "y/", "z/"];
const COMMANDS: [&str; 8] = [
    "$cc -O1 -Ix -Iy -Iz -c m.c",
    "$cc -O1 -Iz -Iy -Ix -c m.c",
    "$cc -O1 -Ix -Iy -Iz -DFLAG -c m.c",
    "$cc -O1 -Ix -iquote y -isystem z -c m.c",
    "$cc -g -O1 -Ix -Iy -Iz -c m.c",
    "$cc -O1 -MD -Ix -Iy -Iz -c m.c",
    "CPATH=y:z $cc -O1 -Wall -Ix -c m.c",
    "$cc -O1 -Ix -Ilink -Iz -c m.c",
];

/// All of them.
pub fn cases() -> Vec<Case> {
    let count = match std::env::var_os("HG_CACHE_FULL") {
        Some(_) => SEQUENCES_FULL,
        None => SEQUENCES,
    };
    (1..=count)
        .map(|seed| Maker::new(seed).sequence(seed))
        .collect()
}

/// Makes one sequence.
struct Maker {
    state: u64,
    /// Headers that are there.
    there: BTreeSet<String>,
    steps: Vec<Step>,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        Maker {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            there: BTreeSet::new(),
            steps: Vec::new(),
        }
    }

    fn sequence(mut self, seed: u64) -> Case {
        let mut source = String::from("int first;\n");
        for header in 0..HEADERS {
            let mark = ['"', '<'][self.below(2) as usize];
            source += &include(header, mark);
            source += &format!("#ifdef V{header}\nint v{header} = V{header};\n#endif\n");
        }
        self.steps.push(Step::Write("m.c", source.leak()));
        for folder in &FOLDERS[1..] {
            self.steps
                .push(Step::Write(format!("{folder}keep").leak(), ""));
        }
        self.steps.push(Step::Link("x", "link"));
        for header in 0..HEADERS {
            self.write(header, FOLDERS.len() as u64);
        }
        self.steps.push(Step::Any);
        for _ in 0..EDITS {
            self.edit();
            self.steps.push(Step::Any);
        }
        let name = format!("random sequence {seed}");
        case(name.leak(), C, COMMANDS[0], &[], self.steps.leak())
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 8) % bound
    }

    fn edit(&mut self) {
        let header = self.below(HEADERS);
        match self.below(12) {
            0..=4 => self.write(header, FOLDERS.len() as u64),
            5 | 6 => self.remove(),
            7 => {
                let command = self.below(COMMANDS.len() as u64);
                self.steps.push(Step::Run(COMMANDS[command as usize]));
            }
            8 => {
                let target = FOLDERS[1 + self.below(3) as usize].trim_end_matches('/');
                self.steps.push(Step::Link(target, "link"));
            }
            9 => self.swap(),
            10 => {
                if let Some(path) = self.any() {
                    self.steps.push(Step::Touch(path.leak()));
                }
            }
            _ => self.relocate(),
        }
    }

    /// One of the headers that are there.
    fn any(&mut self) -> Option<String> {
        let at = self.below(self.there.len().max(1) as u64) as usize;
        self.there.iter().nth(at).cloned()
    }

    /// A new text for a header in one of the first `folders`.
    fn write(&mut self, header: u64, folders: u64) {
        let folder = FOLDERS[self.below(folders) as usize];
        let path = format!("{folder}h{header}.h");
        let text: &'static str = self.text(header).leak();
        let known = !self.there.insert(path.clone());
        let path: &'static str = path.leak();
        let how = self.below(4);
        self.steps.push(match how {
            0 if known => Step::Stealth(path, text),
            1 => Step::Replace(path, text),
            2 => Step::Old(path, text),
            _ => Step::Write(path, text),
        });
    }

    fn text(&mut self, header: u64) -> String {
        // Few values, of one length: the same text comes back now and then.
        let value = 10 + self.below(6);
        let mut text = format!("#undef V{header}\n#define V{header} {value}\n");
        for other in header + 1..HEADERS {
            let mark = ['"', '<'][self.below(2) as usize];
            text += &match self.below(6) {
                0 => include(other, mark),
                1 => format!("#ifdef FLAG\n{}#endif\n", include(other, mark)),
                2 => format!(
                    "#define NAME{other} <h{other}.h>\n#if __has_include(NAME{other})\n#include NAME{other}\n#endif\n"
                ),
                _ => String::new(),
            };
        }
        if self.below(4) == 0 {
            text += &format!(
                "#if __has_include_next(<h{header}.h>)\n#include_next <h{header}.h>\n#endif\n"
            );
        }
        text
    }

    fn remove(&mut self) {
        if let Some(path) = self.any() {
            self.there.remove(&path);
            self.steps.push(Step::Remove(path.leak()));
        }
    }

    /// A header goes to another folder.
    fn relocate(&mut self) {
        let Some(path) = self.any() else {
            return;
        };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let target = format!("{}{name}", FOLDERS[self.below(4) as usize]);
        if target != path {
            self.there.remove(&path);
            self.there.insert(target.clone());
            self.steps.push(Step::Rename(path.leak(), target.leak()));
        }
    }

    /// Two folders swap their names.
    fn swap(&mut self) {
        self.steps.push(Step::Rename("x", "t"));
        self.steps.push(Step::Rename("y", "x"));
        self.steps.push(Step::Rename("t", "y"));
        let swapped = |path: &String| match path.split_at(1) {
            ("x", rest) => format!("y{rest}"),
            ("y", rest) => format!("x{rest}"),
            _ => path.clone(),
        };
        self.there = self.there.iter().map(swapped).collect();
    }
}

/// An include that is no error when there is no such header.
fn include(header: u64, mark: char) -> String {
    let end = if mark == '<' { '>' } else { mark };
    let name = format!("{mark}h{header}.h{end}");
    format!("#if __has_include({name})\n#include {name}\n#endif\n")
}
