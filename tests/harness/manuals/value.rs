//! What the value of an option or an argument is, by the name that its table gives it.

/// What a shell can offer for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    /// Words that are one.
    pub words: Vec<&'a str>,
    /// Any file is one.
    pub file: bool,
    /// Any folder is one.
    pub folder: bool,
    /// Any command of PATH is one.
    pub command: bool,
}

/// `auto|DIR` is the word `auto` or a folder; `HOST:PORT` is nothing that a shell knows.
pub fn of(name: &str) -> Value<'_> {
    let alternatives = || name.split('|');
    let is = |kind: &str| alternatives().any(|one| one == kind);
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    Value {
        words: alternatives().filter(is_word).collect(),
        file: is("FILE") || is("TOKEN"),
        folder: is("DIR"),
        command: is("COMPILER"),
    }
}
