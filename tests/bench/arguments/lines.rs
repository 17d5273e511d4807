//! The table of command lines.

/// One command line with one compiler.
#[derive(Debug)]
pub struct Line {
    /// The part of the table that it is in.
    pub section: &'static str,
    /// What is in PATH.
    pub compiler: &'static str,
    /// For sh, before: plainly.
    pub setup: &'static str,
    /// For sh: `$cc` is the compiler.
    pub command: &'static str,
    /// Whether its stderr is a terminal.
    pub on_terminal: bool,
}

impl Line {
    /// Whether `word` is its section, its compiler or in its command.
    pub fn has(&self, word: &str) -> bool {
        self.section == word || self.compiler == word || self.command.contains(word)
    }
}

const COMPILERS: [(char, &str); 6] = [
    ('g', "gcc"),
    ('G', "g++"),
    ('c', "clang"),
    ('C', "clang++"),
    ('n', "clang-19"),
    ('N', "clang++-19"),
];

/// Each line with each of its compilers.
pub fn all() -> Vec<Line> {
    let mut lines = Vec::new();
    let mut section = "";
    for text in include_str!("lines.txt").lines() {
        if let Some(name) = text.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let Some((letters, rest)) = text.split_once(": ").filter(|_| !text.starts_with('#')) else {
            continue;
        };
        let (setup, command) = rest.split_once(" ;;; ").unwrap_or(("", rest));
        let named = COMPILERS
            .iter()
            .filter(|(letter, _)| letters.contains(*letter));
        lines.extend(named.map(|(_, compiler)| Line {
            section,
            compiler,
            setup,
            command,
            on_terminal: letters.contains('T'),
        }));
    }
    lines
}
