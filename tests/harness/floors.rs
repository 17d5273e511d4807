//! The floor plan of the crates: which module names which, read from the sources' tokens,
//! and whether that agrees with the list of floors in `tests/floors.txt`. What is built
//! for tests alone (`#[cfg(test)]`) doesn't count; paths in macros do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The crates that have floors.
pub const CRATES: [&str; 4] = ["client", "coord", "worker-lite", "proto"];

/// A module's path below its crate; empty for the crate's own root.
pub type Name = Vec<String>;

/// The floors of one crate, from the top down; on each, the rooms that stand there.
#[derive(Debug, Default)]
pub struct Floors(Vec<Vec<Name>>);

/// A file of a crate.
#[derive(Debug, Default)]
struct Module {
    /// Lines that are neither blank, comment nor test.
    lines: usize,
    /// Modules that it names, and one path as an example of each.
    names: BTreeMap<Name, String>,
}

/// The modules of one crate, one for each file outside of tests.
#[derive(Debug)]
pub struct Crate {
    folder: String,
    modules: BTreeMap<Name, Module>,
}

impl Floors {
    /// The floors of the crate in `folder`: the lines below its name in `text`.
    pub fn of(text: &str, folder: &str) -> Floors {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let own = lines
            .skip_while(|line| *line != folder)
            .skip(1)
            .take_while(|line| line.starts_with(' '));
        let rooms = |line: &str| line.split_whitespace().map(name_of_room).collect();
        Floors(own.map(rooms).collect())
    }

    /// Number of the floor of `module` from the top, and the room it is in: the one of
    /// its own that is named most closely.
    fn place(&self, module: &Name) -> Option<(usize, &Name)> {
        let floors = self.0.iter().enumerate();
        let rooms = floors.flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, room)));
        rooms
            .filter(|(_, room)| match room.is_empty() {
                true => module.is_empty(),
                false => module.starts_with(room),
            })
            .max_by_key(|(_, room)| room.len())
    }
}

/// `cache/disk` or, for the root, `lib`.
fn name_of_room(word: &str) -> Name {
    match word {
        "lib" => Name::new(),
        word => word.split('/').map(str::to_owned).collect(),
    }
}

fn spelt(name: &Name) -> String {
    match name.is_empty() {
        true => "lib".to_owned(),
        false => name.join("/"),
    }
}

impl Crate {
    /// Reads the crate in `checkout/folder`.
    ///
    /// # Errors
    /// Words: a file can't be read or is no Rust.
    pub fn read(checkout: &Path, folder: &str) -> Result<Crate, String> {
        let mut files = Vec::new();
        let src = checkout.join(folder).join("src");
        read_module(&src.join("lib.rs"), &src, Name::new(), &mut files)?;
        let known: BTreeSet<Name> = files.iter().flat_map(File::modules).collect();
        // What is written inline in lib.rs stands for itself: whoever uses it is not above
        // all that lib.rs names.
        let own = known.iter().filter(|name| name.len() == 1).cloned();
        let mut modules: BTreeMap<Name, Module> =
            own.map(|name| (name, Module::default())).collect();
        for file in &files {
            modules.entry(file.name.clone()).or_default();
        }
        for file in &files {
            let mut names = BTreeMap::new();
            for (mut name, path) in file.names(&known) {
                while !modules.contains_key(&name) {
                    name.pop();
                }
                names.insert(name, path);
            }
            let lines = file.lines;
            modules.insert(file.name.clone(), Module { lines, names });
        }
        Ok(Crate {
            folder: folder.to_owned(),
            modules,
        })
    }

    /// What disagrees with `floors`, in words; empty: nothing.
    pub fn faults(&self, floors: &Floors) -> Vec<String> {
        let mut faults = Vec::new();
        for (from, module) in &self.modules {
            let Some((floor, room)) = floors.place(from) else {
                faults.push(format!("{}: {} is on no floor", self.folder, spelt(from)));
                continue;
            };
            for (to, path) in &module.names {
                let Some((below, other)) = floors.place(to) else {
                    continue;
                };
                if other != room && below <= floor {
                    faults.push(format!(
                        "{}: {} names {path}: {} does not stand below {}",
                        self.folder,
                        spelt(from),
                        spelt(other),
                        spelt(room)
                    ));
                }
            }
        }
        for room in floors.0.iter().flatten() {
            if !self.modules.keys().any(|module| module.starts_with(room)) {
                faults.push(format!("{}: there is no {}", self.folder, spelt(room)));
            }
        }
        let circles = circles(&self.graph(|module| module.clone()));
        faults.extend(circles.into_iter().map(|circle| {
            let names: Vec<String> = circle.iter().map(spelt).collect();
            format!("{}: a circle of {}", self.folder, names.join(", "))
        }));
        faults
    }

    /// Which names which, where `room` is what a module counts for.
    fn graph(&self, room: impl Fn(&Name) -> Name) -> Graph {
        let mut graph = Graph::new();
        for (from, module) in &self.modules {
            let own = room(from);
            let others = module.names.keys().map(&room).filter(|to| *to != own);
            let others: Vec<Name> = others.collect();
            graph.entry(own).or_default().extend(others);
        }
        graph
    }

    /// A drawing: the rooms, each on the floor that the longest way down from it leads
    /// over, with its files, lines and what it uses. A room that is on no floor of the
    /// list is what stands directly below `src`.
    pub fn drawing(&self, floors: &Floors) -> String {
        let room = |module: &Name| match floors.place(module) {
            Some((_, room)) => room.clone(),
            None => module.iter().take(1).cloned().collect(),
        };
        let graph = self.graph(room);
        let heights = heights(&graph);
        let top = heights.values().copied().max().unwrap_or(0);
        let lines: usize = self.modules.values().map(|module| module.lines).sum();
        let faults = self.faults(floors);
        let upward = faults.iter().filter(|fault| fault.contains(" names "));
        let mut text = format!(
            "{}: {} rooms on {top} floors, {} files, {lines} lines, {} circles, {} imports upward\n",
            self.folder,
            graph.len(),
            self.modules.len(),
            circles(&self.graph(|module| module.clone())).len(),
            upward.count(),
        );
        for floor in (1..=top).rev() {
            for (name, below) in graph.iter().filter(|(name, _)| heights[*name] == floor) {
                let files = self
                    .modules
                    .iter()
                    .filter(|(module, _)| room(module) == *name);
                let (count, lines) = files.fold((0, 0), |(count, lines), (_, module)| {
                    (count + 1, lines + module.lines)
                });
                let below: Vec<String> = below.iter().map(spelt).collect();
                let (name, below) = (spelt(name), below.join(" "));
                let _ = writeln!(text, "{floor:4}  {name:16} {count:3} {lines:6}  {below}");
            }
        }
        text
    }
}

type Graph = BTreeMap<Name, BTreeSet<Name>>;

/// Of each, all that it leads to, itself among it.
fn reach(graph: &Graph) -> BTreeMap<&Name, BTreeSet<&Name>> {
    let mut reach = BTreeMap::new();
    for start in graph.keys() {
        let mut seen = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(name) = open.pop() {
            for next in graph.get(name).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        reach.insert(start, seen);
    }
    reach
}

/// Sets of modules each of which leads to each other.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<Name>> {
    let reach = reach(graph);
    let circle = |name: &&Name| {
        let back = |other: &&&Name| reach.get(**other).is_some_and(|way| way.contains(name));
        let circle = reach[*name].iter().filter(back);
        circle.map(|other| (*other).clone()).collect()
    };
    let circles = graph.keys().map(|name| circle(&name));
    circles
        .filter(|circle: &BTreeSet<Name>| circle.len() > 1)
        .collect()
}

/// The floor of each: one above the highest that it leads to. What is in one circle is on
/// one floor.
fn heights(graph: &Graph) -> BTreeMap<Name, usize> {
    let reach = reach(graph);
    let mut names: Vec<&Name> = reach.keys().copied().collect();
    // Whatever is below another leads to less.
    names.sort_by_key(|name| reach[name].len());
    let mut heights = BTreeMap::new();
    for name in names {
        let is_below = |other: &&&Name| reach.get(**other).is_some_and(|way| !way.contains(name));
        let below = reach[name].iter().filter(is_below);
        let highest = below.filter_map(|other| heights.get(*other)).max();
        let height: usize = highest.map_or(1, |highest| highest + 1);
        heights.insert(name.clone(), height);
    }
    heights
}

/// A file as it was read.
struct File {
    name: Name,
    lines: usize,
    /// Modules written inline in it.
    inline: Vec<Name>,
    paths: Vec<Spelt>,
}

/// A path as it is spelt, and where.
struct Spelt {
    /// The module, inline ones with it.
    at: Name,
    words: Vec<String>,
    /// The name that a `use` gives it.
    alias: Option<String>,
}

impl File {
    fn modules(&self) -> impl Iterator<Item = Name> {
        let own = std::iter::once(self.name.clone());
        own.chain(self.inline.iter().cloned())
    }

    /// The modules of other files that this one names.
    fn names(&self, known: &BTreeSet<Name>) -> Vec<(Name, String)> {
        let mut aliases = BTreeMap::new();
        for path in &self.paths {
            if let (Some(alias), Some(absolute)) = (&path.alias, absolute(path, known, None)) {
                aliases.insert(alias.clone(), absolute);
            }
        }
        let absolutes = self
            .paths
            .iter()
            .filter_map(|path| absolute(path, known, Some(&aliases)));
        let mut found = Vec::new();
        for path in absolutes {
            let module = (0..=path.len())
                .rev()
                .map(|len| path[..len].to_vec())
                .find(|module| known.contains(module))
                .unwrap_or_default();
            if !self.modules().any(|own| own == module) {
                found.push((module, format!("crate::{}", path.join("::"))));
            }
        }
        found
    }
}

/// `path` from the crate's root; `None`: it leads out of the crate.
fn absolute(
    path: &Spelt,
    known: &BTreeSet<Name>,
    aliases: Option<&BTreeMap<String, Name>>,
) -> Option<Name> {
    let mut words = path.words.iter().map(String::as_str).peekable();
    let first = words.next()?;
    let mut base = match first {
        "crate" => Name::new(),
        "self" => path.at.clone(),
        "super" => path.at[..path.at.len().checked_sub(1)?].to_vec(),
        _ => {
            let child: Name = path.at.iter().cloned().chain([first.to_owned()]).collect();
            match aliases.and_then(|aliases| aliases.get(first)) {
                Some(module) => module.clone(),
                None if known.contains(&child) => child,
                None => return None,
            }
        }
    };
    while words.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(words.map(str::to_owned));
    Some(base)
}

/// Reads a file and the files of the modules that it declares, which lie in `folder`.
fn read_module(
    path: &Path,
    folder: &Path,
    name: Name,
    files: &mut Vec<File>,
) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let tokens: TokenStream = text
        .parse()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = Reader {
        at: name.clone(),
        declared: Vec::new(),
        inline: Vec::new(),
        paths: Vec::new(),
    };
    reader.read(tokens);
    files.push(File {
        name: name.clone(),
        lines: lines_of(&text),
        inline: reader.inline,
        paths: reader.paths,
    });
    for child in reader.declared {
        let below = folder.join(&child);
        let candidates = [below.with_extension("rs"), below.join("mod.rs")];
        let file = candidates.iter().find(|file| file.exists());
        let file = file.ok_or_else(|| format!("{}: no file for {child}", path.display()))?;
        let name = name.iter().cloned().chain([child]).collect();
        read_module(file, &below, name, files)?;
    }
    Ok(())
}

/// Lines that are neither blank nor comment, up to the tests.
fn lines_of(text: &str) -> usize {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("//")
        })
        .count()
}

/// Reads tokens for modules and paths.
struct Reader {
    at: Name,
    declared: Vec<String>,
    inline: Vec<Name>,
    paths: Vec<Spelt>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.step(&tokens, at);
        }
    }

    /// Reads what begins at `at`; gives where the next begins.
    fn step(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        if is_for_tests(tokens, at) {
            return item_end(tokens, at + 2);
        }
        match &tokens[at] {
            TokenTree::Group(group) => {
                self.read(group.stream());
                at + 1
            }
            TokenTree::Ident(word) if word == "mod" => self.module(tokens, at + 1),
            TokenTree::Ident(word) if word == "use" && !is_punct(tokens, at + 1, '<') => {
                self.import(tokens, at + 1, &[]) + 1
            }
            TokenTree::Ident(_) => {
                let (words, end) = path(tokens, at);
                let is_middle = at > 0
                    && is_punct(tokens, at - 1, ':')
                    && at > 1
                    && is_punct(tokens, at - 2, ':');
                if words.len() > 1 && !is_middle {
                    self.found(words, None);
                }
                end
            }
            _ => at + 1,
        }
    }

    fn found(&mut self, words: Vec<String>, alias: Option<String>) {
        let at = self.at.clone();
        self.paths.push(Spelt { at, words, alias });
    }

    /// After a `mod`: its name, and `;` or what is in it.
    fn module(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at) else {
            return at;
        };
        match tokens.get(at + 1) {
            Some(TokenTree::Group(group)) => {
                self.at.push(name.to_string());
                self.inline.push(self.at.clone());
                self.read(group.stream());
                self.at.pop();
            }
            _ => self.declared.push(name.to_string()),
        }
        at + 2
    }

    /// A tree of imports below `prefix`; gives where it ends.
    fn import(&mut self, tokens: &[TokenTree], at: usize, prefix: &[String]) -> usize {
        // A path that begins with `::` is another crate's.
        let (words, end) = path(tokens, at);
        let mut all = prefix.to_vec();
        all.extend(words);
        match tokens.get(end) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inner.len() {
                    next = self.import(&inner, next, &all) + 1;
                }
                end + 1
            }
            Some(TokenTree::Ident(word)) if word == "as" => {
                let alias = tokens.get(end + 1).map(ToString::to_string);
                self.found(all, alias);
                end + 2
            }
            next => {
                let is_glob = matches!(next, Some(TokenTree::Punct(star)) if star.as_char() == '*');
                let is_self = all.len() > 1 && all.last().is_some_and(|word| word == "self");
                if is_self {
                    all.pop();
                }
                let alias = all.last().filter(|_| !is_glob).cloned();
                self.found(all, alias);
                if is_glob { end + 1 } else { end }
            }
        }
    }
}

/// The words of the path that begins at `at`, and where it ends: after a last `::`,
/// where one is.
fn path(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut words = Vec::new();
    loop {
        if is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':') {
            at += 2;
        } else if !words.is_empty() {
            return (words, at);
        }
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => words.push(word.to_string()),
            _ => return (words, at),
        }
        at += 1;
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(found)) if found.as_char() == wanted)
}

/// Whether `#[cfg(test)]` stands at `at`.
fn is_for_tests(tokens: &[TokenTree], at: usize) -> bool {
    if !is_punct(tokens, at, '#') {
        return false;
    }
    matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
        if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Where the item that begins at `at` ends: after its `;` or its braces.
fn item_end(tokens: &[TokenTree], mut at: usize) -> usize {
    let is_use = tokens[at..]
        .iter()
        .take(3)
        .any(|token| matches!(token, TokenTree::Ident(word) if word == "use"));
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(end) if end.as_char() == ';' => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => break,
            _ => {}
        }
    }
    at
}
