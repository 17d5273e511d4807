//! `compile_commands.json`, as a tool writes it that has watched a build (JSON Compilation
//! Database, Clang's documentation). Pure.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use super::compile::Compile;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    directory: Cow<'a, str>,
    #[serde(borrow)]
    file: Cow<'a, str>,
    #[serde(borrow)]
    output: Option<Cow<'a, str>>,
}

/// What it lists, by absolute paths; `None`: it is no such file, or does not name all objects.
pub fn compiles(text: &str) -> Option<Vec<Compile>> {
    let entries: Vec<Entry<'_>> = serde_json::from_str(text).ok()?;
    let compiles = entries.iter().map(|entry| {
        let absolute = |name: &str| {
            let path = Path::new(&*entry.directory).join(name);
            path.to_str().map(str::to_owned)
        };
        let object = absolute(entry.output.as_ref()?)?;
        Compile::of(&absolute(&entry.file)?, &object)
    });
    compiles.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_where_the_entry_says() {
        let text = r#"[
            {"directory": "/b", "file": "a \"b\".c", "output": "o/a.o", "arguments": ["cc"]},
            {"directory": "/b", "file": "/s/c.cc", "output": "/b/c.o", "command": "cc"}]"#;
        let compiles = compiles(text).expect("a database");
        let found: Vec<_> = compiles
            .iter()
            .map(|one| (&*one.source, &*one.object))
            .collect();
        assert_eq!(found, [("/b/a \"b\".c", "/b/o/a.o"), ("/s/c.cc", "/b/c.o")]);
    }

    #[test]
    fn what_does_not_name_all_objects_says_nothing() {
        for text in [
            r#"[{"directory": "/b", "file": "a.c", "command": "cc -c a.c"}]"#,
            r#"[{"directory": "/b", "file": "a.c", "output": "a.txt"}]"#,
            "{}",
            "[",
            "[7]",
            "",
        ] {
            assert_eq!(compiles(text), None, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(compiles(&deep), None);
    }
}
