//! The makefiles that CMake writes: `CMakeFiles/Makefile2`, by which targets depend on each
//! other, and in each target's folder `DependInfo.cmake`, which lists its objects. Pure.

use std::collections::{HashMap, HashSet};

use super::compile::Compile;

/// What ends the name of a target's rule for all of it.
const ALL_OF: &str = "/all";

/// The folders of the targets that `all` builds, as they stand in a Makefile2.
pub fn target_folders(makefile: &str) -> Vec<&str> {
    let mut needs: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in makefile.lines() {
        let is_rule = !line.starts_with(['\t', '#', '.', ' ']);
        if let Some((target, needed)) = line.split_once(": ").filter(|_| is_rule) {
            needs.entry(target).or_default().push(needed.trim());
        }
    }
    let mut seen = HashSet::from(["all"]);
    let mut open = vec!["all"];
    let mut folders = Vec::new();
    while let Some(target) = open.pop() {
        if let Some(folder) = target
            .strip_suffix(ALL_OF)
            .filter(|it| it.ends_with(".dir"))
        {
            folders.push(folder);
        }
        for needed in needs.remove(target).into_iter().flatten() {
            if seen.insert(needed) {
                open.push(needed);
            }
        }
    }
    folders
}

/// The compiles in a DependInfo.cmake: lines of quoted words, source and object first.
pub fn compiles(depend_info: &str) -> Vec<Compile> {
    let compile = |line: &str| {
        let mut words = line.trim().strip_prefix('"')?.split("\" \"");
        let source = words.next()?;
        let object = words.next()?;
        Compile::of(source, object.trim_end_matches('"'))
    };
    depend_info.lines().filter_map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_all_needs_and_no_others() {
        let makefile = "# all: no.dir/all\n\
            all: CMakeFiles/app.dir/all\nall: sub/all\n.PHONY : all\n\
            clean: CMakeFiles/extra.dir/clean\n\
            sub/all: sub/CMakeFiles/lib.dir/all\nsub/all: CMakeFiles/app.dir/all\n\
            CMakeFiles/app.dir/all: sub/CMakeFiles/lib.dir/all\n\
            \t$(MAKE) -f x: y.dir/all\n\
            sub/CMakeFiles/lib.dir/all: all\n\
            CMakeFiles/extra.dir/all: CMakeFiles/app.dir/all\n";
        let mut folders = target_folders(makefile);
        folders.sort_unstable();
        assert_eq!(folders, ["CMakeFiles/app.dir", "sub/CMakeFiles/lib.dir"]);
        assert!(target_folders("").is_empty());
    }

    #[test]
    fn objects_of_a_target() {
        let text = "set(CMAKE_DEPENDS_DEPENDENCY_FILES\n  \
            \"/s/a b.c\" \"sub/x.dir/a_b.c.o\" \"gcc\" \"sub/x.dir/a_b.c.o.d\"\n  \
            \"/s/old.cc\" \"/b/x.dir/old.cc.o\"\n  \
            \"/s/table.txt\" \"/b/table.c\"\n  \"\n  )\n";
        let found = compiles(text);
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.source, &*one.object))
            .collect();
        let expected = [
            ("/s/a b.c", "sub/x.dir/a_b.c.o"),
            ("/s/old.cc", "/b/x.dir/old.cc.o"),
        ];
        assert_eq!(found, expected);
    }
}
