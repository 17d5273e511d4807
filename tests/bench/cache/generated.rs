//! A C file that includes many headers from many folders.

use std::path::Path;

use hg_tests::command::{run, scrubbed};

use super::units::{Project, Unit, write};

/// Headers of the source.
const HEADERS: usize = 165;
/// Folders that they are in; each is an `-I`.
const FOLDERS: usize = 11;
/// Declarations in each.
const DECLARATIONS: usize = 40;

/// Writes it into `folder` and compiles it once.
///
/// # Panics
/// There is no room, or no gcc.
pub fn project(folder: &Path) -> Project {
    let mut source = String::new();
    for header in 0..HEADERS {
        let lines: String = (0..DECLARATIONS)
            .map(|line| format!("int declared_{header}_{line}(const char *text, int number);\n"))
            .collect();
        let text = format!("#ifndef H{header}\n#define H{header} {header}\n{lines}#endif\n");
        let path = folder.join(format!("inc{}/h{header}.h", header % FOLDERS));
        write(&path, &text);
        source += &format!("#include <h{header}.h>\n");
    }
    source += "int main(void) { return H1 + declared_2_3(\"text\", H7); }\n";
    write(&folder.join("many.c"), &source);
    let mut words = vec!["gcc".to_owned(), "-O2".to_owned()];
    words.extend((0..FOLDERS).map(|at| format!("-Iinc{at}")));
    words.extend(["-c", "many.c", "-o", "many.o"].map(str::to_owned));
    let mut command = scrubbed(&words[0], folder, folder);
    let outcome = run(command.args(&words[1..]));
    assert!(outcome.ok(), "{}", outcome.words());
    Project {
        name: format!("a C file with {HEADERS} headers, by gcc"),
        units: vec![Unit {
            folder: folder.to_path_buf(),
            words,
        }],
    }
}
