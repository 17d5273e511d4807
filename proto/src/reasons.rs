//! Every code of a reason: what it means, and what helps. `hgbuild explain`, the
//! dashboard's advice and docs/reasons.md are made of it. Pure.

/// What a reason's code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The code: stable, for counting.
    pub code: &'static str,
    /// What it says of a compile, in one sentence.
    pub meaning: &'static str,
    /// What helps; where nothing does or needs to, it begins with `nothing`.
    pub advice: &'static str,
}

impl Meaning {
    /// Whether anything can be done about it.
    pub fn is_helped(&self) -> bool {
        !self.advice.starts_with("nothing")
    }
}

/// The meaning of `code`; `None`: it is not known here.
pub fn find(code: &str) -> Option<&'static Meaning> {
    let at = MEANINGS.binary_search_by(|row| row.code.cmp(code)).ok()?;
    MEANINGS.get(at)
}

/// The code of `reason`, which may have words after a colon.
pub fn code_of(reason: &str) -> &str {
    reason.split(':').next().unwrap_or_default()
}

const fn row(code: &'static str, meaning: &'static str, advice: &'static str) -> Meaning {
    Meaning {
        code,
        meaning,
        advice,
    }
}

const IT_IS_CACHED: &str = "nothing: the cache answers when it is compiled again";
const IT_IS_NO_COMPILE: &str = "nothing: it is no compile of one source to one object";
const FULL_SANDBOX: &str = "have workers with the full sandbox";
const IT_STAYS: &str = "nothing: a worker could not do the same";
const NEXT_TIME: &str = "nothing: the next compile of it is kept";
const RARE: &str = "write it the usual way, if this source is compiled often";

const SAME_VERSION: &str = "see that the worker's version is this one's: 'hgbuild workers --json'";

/// All codes, sorted.
pub const MEANINGS: &[Meaning] = &[
    row(
        "asm-file-directive",
        "the assembler reads a file that the source names (.incbin, .include), or may; or it is given lines of files (.loc), for which it writes down the folder",
        "move the assembler text into a source of its own",
    ),
    row(
        "assembler-option",
        "an option is for the assembler, which may read or write files by it",
        "drop -Wa options that name files",
    ),
    row(
        "assembler-source",
        "the source is assembler, and only preprocessed text could go; or g++ preprocesses it",
        FULL_SANDBOX,
    ),
    row(
        "audit",
        "the worker's result was checked against this machine's own compiler, and is another one or could not be compared",
        "have the administrator look at that worker: 'hgbuild workers' shows whether it is out",
    ),
    row(
        "base-file-macro",
        "the source asks how it was reached (__BASE_FILE__, __INCLUDE_LEVEL__), which preprocessed text can't tell",
        "leave these macros out, or give a worker the full sandbox",
    ),
    row(
        "base-folder",
        "the object has the folder of HG_BASE_DIR in it",
        "compile with -ffile-prefix-map=FOLDER=.",
    ),
    row(
        "builtin-question",
        "the source asks whether the compiler has a function (__has_builtin), whose answer is known only in place",
        "nothing: rare, and compiled here each time",
    ),
    row(
        "cache-busy",
        "another process had a part of the cache locked",
        NEXT_TIME,
    ),
    row(
        "cache-full",
        "the disk or the quota of the cache's folder is full",
        "free space there, or set HG_CACHE_DIR to another disk",
    ),
    row(
        "cache-io",
        "the cache's folder could not be read or written",
        "see 'hgbuild doctor' for the folder and its error",
    ),
    row(
        "cache-newer",
        "a newer version of hgbuild has made the cache's folder",
        "use that version, or set HG_CACHE_DIR to another folder",
    ),
    row(
        "cache-read-only",
        "the cache's folder can't be written to",
        "make it writable, or set HG_CACHE_DIR to another folder",
    ),
    row(
        "cache-unsafe",
        "others than you could write to the cache's folder",
        "take the right to write from them: chmod go-w FOLDER",
    ),
    row(
        "charset",
        "an option sets another character set than UTF-8 for the source or for strings",
        IT_STAYS,
    ),
    row(
        "clang-cc1-option",
        "an option goes straight to clang's own compiler (-Xclang, -mllvm) and is not in the table of those that may travel",
        "leave the option out, or report it",
    ),
    row(
        "columns",
        "a sanitizer writes columns into the object, which the same text in other files may have otherwise",
        IT_IS_CACHED,
    ),
    row(
        "compile-failed",
        "the compile failed",
        "correct the error: what fails is not kept",
    ),
    row(
        "compression-failed",
        "the preprocessed text could not be compressed",
        "see whether memory is short on this machine",
    ),
    row(
        "computed-include",
        "the name of an #include is put together by macros, and no definition of them says which file it is",
        IT_STAYS,
    ),
    row(
        "computed-question",
        "the name in a __has_include is put together by macros",
        IT_STAYS,
    ),
    row(
        "config",
        "a setting of hgbuild is wrong, so that the grid is not used; or clang's --config names a file",
        "see 'hgbuild config', which names what is wrong",
    ),
    row(
        "configure-probe",
        "a configure script, CMake or Meson tries out what the compiler can",
        "nothing: such probes are small, and often meant to fail",
    ),
    row(
        "counter-in-condition",
        "__COUNTER__ is in a condition, and preprocessing has counted already",
        IT_STAYS,
    ),
    row(
        "coverage",
        "coverage writes a file beside the object, with paths of this machine in it, and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "debug-info",
        "debug information is asked for (-g), and no worker can have the sources at their own paths",
        "have workers with the full sandbox ('hgbuild workers' shows each one's)",
    ),
    row(
        "dependencies-only",
        "the command lists dependencies and compiles nothing",
        IT_IS_NO_COMPILE,
    ),
    row(
        "dependencies-to-device",
        "the dependency file is a device or standard output",
        IT_STAYS,
    ),
    row(
        "dependency-option",
        "an option of the dependency file is not one that may travel",
        "let -MD or -MMD and -MF write it",
    ),
    row(
        "diagnostics",
        "the compiler had warnings, which quote lines of this checkout",
        IT_IS_CACHED,
    ),
    row(
        "digraph",
        "the text has digraphs or trigraphs for a #",
        RARE,
    ),
    row(
        "direct-hit",
        "the cache had the answer, by its files",
        "nothing: this is the fastest way",
    ),
    row("disabled", "HG_DISABLE is set", "unset HG_DISABLE"),
    row(
        "does-not-travel",
        "a worker found an option in the command that may not travel (it stands after 'refused')",
        SAME_VERSION,
    ),
    row(
        "double-header",
        "two headers are equal and one of them has #pragma once, which a worker might take for one",
        "use include guards in that header",
    ),
    row(
        "driver-option",
        "an option makes the compiler's driver do or say something of its own (-v, -time, -B, -wrapper)",
        IT_STAYS,
    ),
    row(
        "dump",
        "an option makes the compiler dump what it does",
        IT_STAYS,
    ),
    row(
        "embed",
        "the source embeds a file (#embed), and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "emit-llvm",
        "the output is LLVM's intermediate code, and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "empty-body",
        "clang warns of empty bodies only where it reads the source itself",
        "have workers with the full sandbox, or build without -Wempty-body",
    ),
    row(
        "environment",
        "a variable of the environment that the compiler heeds is too large to travel",
        "shorten that variable",
    ),
    row(
        "equivalent",
        "a worker's other build of the same compiler made an object that could not be matched to this machine's",
        "nothing: it is compiled here",
    ),
    row(
        "external-assembler",
        "the assembler is another program, which is not known to be the same there",
        "drop -fno-integrated-as where it is not needed",
    ),
    row(
        "extra-output",
        "an option writes a file beside the object that a worker can't make, or that is another one each time",
        "drop the option where its file is not needed",
    ),
    row(
        "fall-through",
        "gcc warns of falling through a case by comments, which preprocessed text has not",
        "use [[fallthrough]], or have workers with the full sandbox",
    ),
    row(
        "file-size-limit",
        "files of this shell may only be so large (ulimit -f)",
        "lift the limit: ulimit -f unlimited",
    ),
    row(
        "grid-broken",
        "the connection to the coordinator broke off",
        "look at the coordinator's log, and at the network between",
    ),
    row(
        "grid-down",
        "the coordinator failed a moment ago, and is left alone for some seconds",
        "see 'hgbuild doctor', and the coordinator's log",
    ),
    row(
        "grid-refused",
        "the coordinator refuses this token: it has expired, was revoked, or is of another grid",
        "join with a new token: 'hg-coord token --role client' there, 'hgbuild join' here",
    ),
    row(
        "grid-shutdown",
        "the coordinator is being stopped",
        "nothing: once it runs again it is asked again",
    ),
    row(
        "grid-unreachable",
        "nobody answers at the coordinator's address",
        "start the coordinator, or correct HG_COORDINATOR ('hgbuild config' says where it is set)",
    ),
    row("header-source", "the source is a header", IT_IS_NO_COMPILE),
    row(
        "indentation",
        "gcc warns of misleading indentation, which preprocessed text may have lost",
        "have workers with the full sandbox, or build with -Wno-misleading-indentation",
    ),
    row(
        "input-changed",
        "a file changed while the compile went on",
        "nothing, unless it happens again: then a build step writes headers while others read them",
    ),
    row(
        "internal",
        "an error of hgbuild's own, which ended in a local compile",
        "report it, with the output of 'hgbuild -v'",
    ),
    row(
        "interrupted",
        "a signal came",
        "nothing: it is compiled again with the next build",
    ),
    row("language", "the language is not C or C++", IT_STAYS),
    row(
        "language-after-source",
        "-x follows the source",
        "put -x before the source",
    ),
    row(
        "late-pragma",
        "clang expands a pragma's words late, and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "limit",
        "the compile needs more memory, time or output than a worker gives",
        "raise the worker's limits, or leave such sources here",
    ),
    row(
        "line-directive",
        "a #line directive takes its name from a macro, or hides which file is read",
        RARE,
    ),
    row(
        "linked-header",
        "a header is a symbolic link or lies behind one, and has another name too, or the compiler asks for its real one",
        "include headers by their own paths, not by links",
    ),
    row(
        "linker-input",
        "clang warns of an option for the linker, in words of this machine",
        "drop linker options (-l, -L) from compiles",
    ),
    row(
        "local-slot",
        "a core of this machine was idle",
        "nothing: it was the fastest way",
    ),
    row(
        "lost-pragma",
        "gcc's preprocessed text leaves this pragma out",
        FULL_SANDBOX,
    ),
    row(
        "lto",
        "link-time optimization writes an object that depends on where it is compiled, and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "missing-output",
        "a worker's compile ended well without the expected object",
        "report it, with the output of 'hgbuild -v'",
    ),
    row(
        "missing-value",
        "the last option lacks its value",
        "correct the command line",
    ),
    row(
        "mixed-newlines",
        "the source's lines end in several ways, which preprocessed text does not keep",
        "convert the file to one kind of line end",
    ),
    row("module", "the source imports a module", IT_STAYS),
    row("modules", "C++ modules are asked for", IT_STAYS),
    row(
        "native-arch",
        "-march=native means this machine's processor, and could not be resolved",
        "name the architecture: -march=x86-64-v3",
    ),
    row(
        "no-coordinator",
        "no coordinator is known",
        "join a grid: 'hgbuild join', or set HG_COORDINATOR",
    ),
    row("no-source", "the command names no source", IT_IS_NO_COMPILE),
    row(
        "no-thread",
        "this machine could not start a thread",
        "lift the limit on processes: ulimit -u",
    ),
    row(
        "no-token",
        "there is no token for the grid",
        "join it: 'hg-coord token --role client' there, 'hgbuild join' here",
    ),
    row(
        "no-worker",
        "no worker has this compiler, or none is there",
        "'hgbuild doctor COMPILER' says for each worker why, and which command changes it",
    ),
    row(
        "not-a-compile",
        "the command links, or does something else than to compile",
        IT_IS_NO_COMPILE,
    ),
    row(
        "not-a-compiler",
        "the program is no compiler that is known",
        "nothing: it runs as it is",
    ),
    row(
        "not-a-travelling-compile",
        "a worker found no compile in the command (it stands after 'refused')",
        SAME_VERSION,
    ),
    row(
        "not-one-file",
        "a worker found several inputs or outputs in a task of one (it stands after 'refused')",
        SAME_VERSION,
    ),
    row(
        "nullability",
        "headers say of pointers whether they may be null, and clang's warnings on it are for some headers only",
        FULL_SANDBOX,
    ),
    row(
        "odd-path",
        "a path has characters or a length that can't travel",
        "rename that file or folder",
    ),
    row(
        "odd-spelling",
        "the source spells something as only one dialect reads it (trigraphs, NUL, vertical tabs)",
        RARE,
    ),
    row("offload", "the compile is for a GPU too", IT_STAYS),
    row(
        "open-end",
        "the source ends within a line that goes on",
        "end the file with a newline",
    ),
    row(
        "output",
        "the output can't be replaced the way the compiler would write it, or the disk refused it",
        "see the words after it: which file it is, and what is odd with it",
    ),
    row(
        "output-changed",
        "the output was changed before it could be kept",
        NEXT_TIME,
    ),
    row(
        "output-is-device",
        "the output is a device",
        IT_IS_NO_COMPILE,
    ),
    row(
        "output-shared",
        "another process writes to the same output",
        NEXT_TIME,
    ),
    row(
        "outputs",
        "a worker found other outputs than the command has (it stands after 'refused')",
        SAME_VERSION,
    ),
    row(
        "path",
        "a worker found a path that leads out of its folder (it stands after 'refused')",
        SAME_VERSION,
    ),
    row(
        "pch",
        "a precompiled header is used or made",
        "build without it: workers share headers anyway",
    ),
    row("plugin", "a plugin of the compiler is loaded", IT_STAYS),
    row(
        "pragma-dependency",
        "#pragma GCC dependency compares times of files",
        "leave the pragma out",
    ),
    row(
        "pragma-file",
        "a pragma names a file",
        "leave the pragma out",
    ),
    row(
        "pragma-once",
        "#pragma once is made by macros, or in the source itself",
        "use include guards",
    ),
    row(
        "pragma-pack",
        "a header leaves #pragma pack open, and clang's warning on it is for files only",
        "close it with #pragma pack(pop)",
    ),
    row(
        "pragma-target",
        "#pragma GCC target or optimize changes what the preprocessor defines",
        "use __attribute__((target(...))), or have workers with the full sandbox",
    ),
    row(
        "preprocess-only",
        "the command preprocesses only",
        IT_IS_NO_COMPILE,
    ),
    row(
        "preprocessed-hit",
        "the cache had the answer, by its text",
        "nothing: its files are known from now on",
    ),
    row(
        "preprocessed-source",
        "the source is preprocessed already, and no worker can have it at its own path",
        FULL_SANDBOX,
    ),
    row(
        "preprocessor-diagnostics",
        "the preprocessor warns",
        "correct the warnings: compiles that warn run here too",
    ),
    row(
        "preprocessor-failed",
        "the preprocessor failed",
        "nothing: the compiler itself says what is wrong",
    ),
    row(
        "preprocessor-option",
        "an option for the preprocessor is not one that may travel",
        "give it without -Wp or -Xpreprocessor",
    ),
    row(
        "profile",
        "profiles of earlier runs are read, or written by the program",
        FULL_SANDBOX,
    ),
    row(
        "queue",
        "no worker was free in time",
        "add workers, or raise HG_QUEUE_MS_MAX",
    ),
    row(
        "random-seed",
        "-frandom-seed stands without a value",
        "give the seed: -frandom-seed=NAME",
    ),
    row(
        "records-command-line",
        "the object has the command line in it (-grecord-command-line), or the text what gcc makes of the machine's memory (-fverbose-asm)",
        "drop the option",
    ),
    row(
        "refused",
        "a worker did not accept the compile",
        SAME_VERSION,
    ),
    row(
        "remote",
        "a worker compiled it",
        "nothing: this is how it is meant",
    ),
    row(
        "remote-cache",
        "a worker had compiled it before, and the coordinator had kept the result",
        "nothing: this is how it is meant",
    ),
    row(
        "remote-diagnostics",
        "the worker's compiler had something to say, which would read otherwise here",
        "correct the warnings: compiles that warn run twice",
    ),
    row(
        "remote-failed",
        "the compile failed on a worker, so it ran here for its diagnostics",
        "correct the error; if it compiles here, report it with the output of 'hgbuild -v'",
    ),
    row(
        "response-file",
        "arguments are in a file (@FILE) that can't be read or is too large",
        "see that the file is there",
    ),
    row(
        "result-corrupt",
        "what a worker returned was damaged, or no object of this target",
        "have the administrator look at that worker",
    ),
    row(
        "sanitizer-list",
        "a list for sanitizers is read from a file, and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "save-temps",
        "intermediate files are to be kept (-save-temps), and only preprocessed text could go",
        FULL_SANDBOX,
    ),
    row(
        "search-path",
        "the compiler did not say where it looks for headers, or an option changes that",
        "drop options that replace the compiler's own folders",
    ),
    row(
        "several-archs",
        "objects for several architectures are asked for at once",
        "compile once for each architecture",
    ),
    row(
        "several-dependency-options",
        "the dependency file is named more than once",
        "name it once",
    ),
    row(
        "several-outputs",
        "more than one output is named",
        "name one",
    ),
    row(
        "several-sources",
        "several sources are compiled at once",
        "compile each by a command of its own",
    ),
    row(
        "several-stages",
        "the command names several stages (-c with -S or -E)",
        "name one",
    ),
    row(
        "slow-worker",
        "the worker took far longer than it should, and a core here was idle",
        "add faster workers, or take out slow ones: 'hgbuild workers' shows speeds",
    ),
    row(
        "source",
        "the source is no regular file",
        "nothing: the compiler itself says what is wrong",
    ),
    row(
        "source-name",
        "the source's name or place can't travel",
        "rename the source",
    ),
    row(
        "source-path",
        "the object has the source's path in it",
        FULL_SANDBOX,
    ),
    row("specs", "the compiler's specs are changed", IT_STAYS),
    row(
        "stdin-source",
        "the source comes from standard input",
        "write it to a file",
    ),
    row(
        "stdout",
        "the compiler wrote to standard output",
        "nothing: it is not kept",
    ),
    row(
        "stdout-output",
        "the output goes to standard output",
        "write it to a file",
    ),
    row(
        "syntax-only",
        "the command checks the source and writes no object",
        IT_IS_NO_COMPILE,
    ),
    row(
        "time-macro",
        "__DATE__, __TIME__ or __TIMESTAMP__ is in the source",
        "leave the clock's macros out, or freeze them by SOURCE_DATE_EPOCH or by -D",
    ),
    row(
        "too-large",
        "the preprocessed text is too large to travel",
        "split the source",
    ),
    row(
        "too-many-inputs",
        "the source reads more headers than can travel",
        "split the source, or its headers",
    ),
    row(
        "too-new",
        "a file is younger than the compile, so that nobody can say what the compiler saw",
        NEXT_TIME,
    ),
    row(
        "tree",
        "the sources could not be gathered as they are",
        "see the words after it; 'hgbuild -v' has them",
    ),
    row(
        "unknown-compiler",
        "the compiler did not say what it is, or is not what its name says",
        "see 'hgbuild doctor COMPILER'",
    ),
    row(
        "unknown-option",
        "an option is not in the table of those that are known",
        "leave the option out, or report it",
    ),
    row(
        "unreadable-source",
        "the source could not be read",
        "nothing: the compiler itself says what is wrong",
    ),
    row(
        "worker-failed",
        "the workers that tried it failed at it",
        "see 'hgbuild workers' for their last errors",
    ),
    row(
        "working-directory",
        "the working folder can't be had on a worker, or $PWD is another name of it",
        "build from the folder's own path: cd \"$(pwd -P)\"",
    ),
    row(
        "wrapper",
        "the program is a wrapper of a compiler, with settings of its own",
        "name the compiler itself",
    ),
    row(
        "xray",
        "XRay's instrumentation reads or writes files",
        IT_STAYS,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_found_and_says_something() {
        for row in MEANINGS {
            assert_eq!(
                find(row.code),
                Some(row),
                "{} is not in its place",
                row.code
            );
            assert!(!row.meaning.is_empty() && !row.advice.is_empty());
        }
        assert_eq!(find("no-such-code"), None);
        assert_eq!(code_of("queue: full"), "queue");
        assert!(find("queue").is_some_and(Meaning::is_helped));
        assert!(!find("local-slot").is_some_and(Meaning::is_helped));
    }
}
