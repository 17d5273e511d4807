//! `build.ninja`: which objects its targets depend on (the Ninja manual, "Ninja file
//! reference"). Pure.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::compile::Compile;

/// Bytes that variables may stand for, all together: a few lines of which each names the one
/// before twice would be more than there is memory for.
const EXPANDED_BYTES_MAX: usize = 16 << 20;

/// What was set so far.
#[derive(Default)]
struct Variables<'a> {
    values: HashMap<&'a str, String>,
    expanded_bytes: Cell<usize>,
}

impl Variables<'_> {
    /// Empty where there is none, and where it would be too much.
    fn value(&self, name: &str) -> &str {
        let value = self.values.get(name).map_or("", String::as_str);
        self.expanded_bytes
            .set(self.expanded_bytes.get().saturating_add(value.len()));
        match self.is_too_much() {
            true => "",
            false => value,
        }
    }

    fn is_too_much(&self) -> bool {
        self.expanded_bytes.get() > EXPANDED_BYTES_MAX
    }
}

/// One `build` statement. Of a large file there are many: their paths are those in it.
struct Edge<'a> {
    /// Explicit and implicit ones.
    outputs: Vec<Cow<'a, str>>,
    /// How many of `inputs` are explicit: what is compiled is.
    explicit: usize,
    /// Those that are only to be there before, too.
    inputs: Vec<Cow<'a, str>>,
}

impl Edge<'_> {
    fn compile(&self) -> Option<Compile> {
        let object = self.outputs.first()?;
        let mut explicit = self.inputs.iter().take(self.explicit);
        explicit.find_map(|source| Compile::of(source, object))
    }
}

/// The compiles that `targets` need, or where there are none the default targets; `None`:
/// these are not all in `text`.
pub fn compiles(text: &str, targets: &[String]) -> Option<Vec<Compile>> {
    let mut variables = Variables::default();
    let mut edges: Vec<Edge<'_>> = Vec::new();
    let mut defaults: Vec<Cow<'_, str>> = Vec::new();
    let joined = match text.contains("$\n") {
        true => Cow::Owned(text.replace("$\n", "$\u{0}")),
        false => Cow::Borrowed(text),
    };
    for line in joined.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "build" => edges.push(edge(rest, &variables)?),
            "default" => defaults.extend(paths(rest, &variables).0),
            // What is in there is not looked at.
            "subninja" => return None,
            _ => {
                // Lines of a block are indented: their first word is empty.
                if let Some(value) = rest.strip_prefix("= ").filter(|_| !word.is_empty()) {
                    let one_path = value.replace(' ', "$ ").replace(':', "$:");
                    let value = paths(&one_path, &variables).0.concat();
                    variables.values.insert(word, value);
                }
            }
        }
    }
    if variables.is_too_much() {
        return None;
    }
    let roots: Vec<&str> = match targets.is_empty() {
        true => defaults.iter().map(|root| &**root).collect(),
        false => targets.iter().map(|root| &**root).collect(),
    };
    needed(&edges, roots)
}

/// The compiles among `edges` that `roots` need, directly or not.
fn needed(edges: &[Edge<'_>], roots: Vec<&str>) -> Option<Vec<Compile>> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, edge) in edges.iter().enumerate() {
        makers.extend(edge.outputs.iter().map(|output| (&**output, number)));
    }
    if roots.is_empty() || roots.iter().any(|root| !makers.contains_key(root)) {
        return None;
    }
    let mut open = roots;
    let mut seen = HashSet::new();
    let mut compiles = Vec::new();
    while let Some(path) = open.pop() {
        let Some(&number) = makers.get(path) else {
            continue;
        };
        if seen.insert(number) {
            compiles.extend(edges[number].compile());
            open.extend(edges[number].inputs.iter().map(|input| &**input));
        }
    }
    Some(compiles)
}

/// `OUTPUTS | IMPLICIT: RULE INPUTS | IMPLICIT || ORDER |@ VALIDATIONS`; `None`: it is not.
fn edge<'a>(line: &'a str, variables: &Variables<'_>) -> Option<Edge<'a>> {
    let (mut outputs, rest) = paths(line, variables);
    let rest = rest.strip_prefix(':')?.trim_start_matches(' ');
    let (_rule, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (mut inputs, rest) = paths(rest, variables);
    if !rest.is_empty() {
        return None;
    }
    let is_mark = |word: &Cow<'_, str>| matches!(&**word, "|" | "||" | "|@");
    let explicit = inputs.iter().position(is_mark).unwrap_or(inputs.len());
    outputs.retain(|word| !is_mark(word));
    inputs.retain(|word| !is_mark(word));
    Some(Edge {
        outputs,
        explicit,
        inputs,
    })
}

/// The paths up to a colon, escapes and variables replaced, and what comes from the colon on.
fn paths<'a>(line: &'a str, variables: &Variables<'_>) -> (Vec<Cow<'a, str>>, &'a str) {
    let mut paths = Vec::new();
    let mut path = Cow::Borrowed("");
    let mut rest = line;
    loop {
        let at = rest.find([' ', ':', '$']).unwrap_or(rest.len());
        match path.is_empty() {
            true => path = Cow::Borrowed(&rest[..at]),
            false => path.to_mut().push_str(&rest[..at]),
        }
        rest = &rest[at..];
        let next = rest.chars().next();
        if matches!(next, None | Some(' ' | ':')) && !path.is_empty() {
            paths.push(std::mem::take(&mut path));
        }
        match next {
            None | Some(':') => return (paths, rest),
            Some(' ') => rest = &rest[1..],
            Some(_) => {
                let (meant, after) = escaped(&rest[1..], variables);
                path.to_mut().push_str(&meant);
                rest = after;
            }
        }
    }
}

/// What is meant by what follows a dollar, and what comes after that.
fn escaped<'a, 'v>(rest: &'a str, variables: &'v Variables<'_>) -> (Cow<'v, str>, &'a str) {
    let value = |name: &str| Cow::Borrowed(variables.value(name));
    match rest.chars().next() {
        // A line that goes on; it is indented.
        Some('\u{0}') => (Cow::Borrowed(""), rest[1..].trim_start_matches(' ')),
        Some('{') => {
            let (name, after) = rest[1..].split_once('}').unwrap_or(("", ""));
            (value(name), after)
        }
        Some(one) if one.is_ascii_alphanumeric() || one == '_' || one == '-' => {
            let is_name = |one: char| one.is_ascii_alphanumeric() || one == '_' || one == '-';
            let end = rest.find(|one| !is_name(one)).unwrap_or(rest.len());
            (value(&rest[..end]), &rest[end..])
        }
        Some(one) => {
            let (_, after) = rest.split_at(one.len_utf8());
            (Cow::Owned(one.to_string()), after)
        }
        None => (Cow::Borrowed(""), rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# build no.o: cc no.c\n\
        ninja_required_version = 1.5\ninclude rules.ninja\nroot = /b b/\nrule cc\n  command = $cc -o $out\n\
        build app.dir/a.c.o: C_COMPILER__app /s/a$ b.c | /s/a.h || order\n  DEP_FILE = x.d\n\
        build app.dir/c.cc.o | ${root}c.side: CXX c.cc $\n    $root$:x.h\n\
        build app: LINK app.dir/a.c.o app.dir/c.cc.o | liblib.a\n\
        build order: phony || gen.h\nbuild gen.h: CUSTOM gen\n\
        build gen: LINK gen.dir/gen.c.o\nbuild gen.dir/gen.c.o: CC gen.c\n\
        build liblib.a: AR lib.o\nbuild lib.o: CC lib.s\n\
        build extra: LINK extra.o\nbuild extra.o: CC extra.c\n\
        build self: phony self\n\
        build joined.o: LINK lib.o | map.c || gen.c\n\
        build all: phony app self joined.o\ndefault all\n";

    fn objects(text: &str, targets: &[&str]) -> Option<Vec<String>> {
        let targets: Vec<String> = targets.iter().map(|one| (*one).to_owned()).collect();
        let found = compiles(text, &targets)?;
        let mut found: Vec<String> = found.into_iter().map(|one| one.object).collect();
        found.sort();
        Some(found)
    }

    #[test]
    fn what_targets_need_and_nothing_else() {
        let all = [
            "app.dir/a.c.o",
            "app.dir/c.cc.o",
            "gen.dir/gen.c.o",
            "lib.o",
        ];
        assert_eq!(objects(TEXT, &[]).expect("a default"), all);
        assert_eq!(objects(TEXT, &["all"]).expect("a target"), all);
        assert_eq!(objects(TEXT, &["extra"]).expect("a target"), ["extra.o"]);
        assert_eq!(
            objects(TEXT, &["/b b/c.side"]).expect("an output"),
            ["app.dir/c.cc.o"]
        );
        assert_eq!(
            objects(TEXT, &["gen"]).expect("a target"),
            ["gen.dir/gen.c.o"]
        );
        let sources = compiles(TEXT, &["app.dir/a.c.o".to_owned()]).expect("an object");
        assert_eq!(sources[0].source, "/s/a b.c");
    }

    #[test]
    fn what_is_not_there_is_not_known() {
        assert_eq!(objects(TEXT, &["nothing"]), None);
        assert_eq!(objects(&format!("{TEXT}subninja more.ninja\n"), &[]), None);
        assert_eq!(objects("build a.o: CC a.c\n", &[]), None);
        for broken in [
            "build a.o",
            "build a.o CC a.c",
            "build a: b: c",
            "build",
            "default $",
        ] {
            assert_eq!(objects(broken, &[]), None, "{broken}");
        }
        let twice = |n: usize| format!("v{} = $v{n}$v{n}\n", n + 1);
        let lines: String = (0..64).map(twice).collect();
        let bomb = format!("v0 = x\n{lines}build a.o: CC $v64.c\ndefault a.o\n");
        assert_eq!(objects(&bomb, &[]), None);
        // Whatever is cut off is no more than wrong.
        for end in (0..TEXT.len()).filter(|end| TEXT.is_char_boundary(*end)) {
            let _ = objects(&TEXT[..end], &["app"]);
        }
        let _ = objects("build a$é$\n: CC $\u{0}a.c ${ $\ndefault a", &[]);
    }
}
