//! Asks the local cache: what the question is made of, and whether facts that
//! were kept are true now.

use std::env;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hg_proto::args::{self, Compile, Dialect, Language};
use hg_proto::probe::Probe;

use crate::answer::Answer;
use crate::cache::{Cache, Kind, Name};
use crate::compiler::Found;
use crate::facts::{self, Looks};
use crate::key::Key;
use crate::manifest::{Facts, Manifest};
use crate::os;
use crate::terminal;

/// Milliseconds waited at most for the clock to move on from a file's time.
const TICK_MS_MAX: u64 = 20;

/// Variables beside those that travel, which change what a compiler reads.
const VARIABLES: [&str; 11] = [
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "GCC_URLS",
    "LLVM_OVERRIDE_PRODUCER",
    "TERM_URLS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
];

/// Which compiler, for one language.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Of all that makes its code.
    pub digest: Vec<u8>,
    /// Of what it found around itself.
    pub surroundings: Vec<u8>,
}

impl Identity {
    /// Of the compiler that was found; `None`: not for this language.
    pub fn of(probe: &Probe, language: Language) -> Option<Self> {
        Some(Identity {
            digest: probe.toolchain(language)?.digest,
            surroundings: probe.surroundings.as_bytes().to_vec(),
        })
    }
}

/// A question to the cache.
#[derive(Debug)]
pub struct Lookup {
    /// Where answers are.
    pub cache: Cache,
    /// What the question is made of.
    pub key: Key,
    /// What words on stderr depend on.
    pub terminal: Vec<u8>,
    /// All that is known of this question.
    pub manifest: Manifest,
    looks: Looks,
    asked_ns: i64,
}

/// A good answer.
#[derive(Debug)]
pub struct Hit {
    /// What the compile gave.
    pub answer: Answer,
    /// Its key.
    pub name: Bytes,
    /// The base folder for which it is kept by its text too, or can't be.
    pub base: Bytes,
    /// Facts to be kept in place of old ones, where stats have changed.
    pub refreshed: Option<Facts>,
}

/// What the question is made of, beside the content of files.
pub fn key(found: &Found, compile: &Compile, dialect: Dialect, toolchain: &Identity) -> Key {
    let mut key = compiler(found, compile, dialect, toolchain);
    directory(&mut key);
    for argument in &compile.arguments {
        for word in &argument.words {
            key.add("argument", word);
        }
    }
    environment(&mut key);
    key
}

/// Which compiler, by content and by name.
pub fn compiler(found: &Found, compile: &Compile, dialect: Dialect, toolchain: &Identity) -> Key {
    let mut key = Key::default();
    key.add("compiler", &toolchain.digest);
    key.add("surroundings", &toolchain.surroundings);
    key.add("driver", os::bytes(found.driver.as_os_str()));
    key.add("name", os::bytes(&found.command.arg0));
    key.add("language", compile.language.name().as_bytes());
    key.add("family", dialect.family.name().as_bytes());
    key
}

/// Adds where it runs, and how compilers write that down: by what they believe of
/// `$PWD`, so that a build below `make -C` finds what one in its folder kept.
pub fn directory(key: &mut Key) {
    let folder = env::current_dir().unwrap_or_default();
    key.add("directory", os::bytes(folder.as_os_str()));
    if env::var_os("PWD").is_some_and(|pwd| pwd != folder)
        && let Some(pwd) = os::pwd()
    {
        key.add("environment PWD", os::bytes(&pwd));
    }
}

/// Adds the variables that a compiler reads.
pub fn environment(key: &mut Key) {
    let mut variables: Vec<_> = env::vars_os()
        .filter(|(name, _)| {
            let name = os::bytes(name);
            args::environment_travels(name) || VARIABLES.iter().any(|v| v.as_bytes() == name)
        })
        .collect();
    variables.sort();
    for (name, value) in variables {
        let what = format!("environment {}", name.to_string_lossy());
        key.add(&what, os::bytes(&value));
    }
}

/// What the compiler's folders for headers hang on, beside its options.
pub fn basis(found: &Found, toolchain: &Identity) -> Vec<u8> {
    let mut key = Key::default();
    key.add("compiler", &toolchain.digest);
    key.add("surroundings", &toolchain.surroundings);
    key.add("driver", os::bytes(found.driver.as_os_str()));
    for name in VARIABLES {
        let value = env::var_os(name);
        key.add(name, &[u8::from(value.is_some())]);
        key.add(name, os::bytes(&value.unwrap_or_default()));
    }
    key.digest().to_vec()
}

impl Lookup {
    /// Reads what is known about `key`.
    pub fn new(cache: Cache, key: Key) -> Self {
        let asked_ns = facts::now_ns();
        let manifest = cache
            .read(manifest_name(&key))
            .and_then(Manifest::read)
            .unwrap_or_default();
        Lookup {
            cache,
            key,
            terminal: terminal::identity(),
            manifest,
            looks: Looks::default(),
            asked_ns,
        }
    }

    /// An answer whose facts are true now.
    pub fn hit(&mut self) -> Option<Hit> {
        let found = self.manifest.find(&mut self.looks, self.asked_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        let answer = answer.and_then(Answer::read)?;
        answer.fits(&self.terminal).then_some(Hit {
            answer,
            name: found.answer,
            base: found.base,
            refreshed: found.refreshed,
        })
    }

    /// As [`Lookup::hit`], from what lies on the disk by now.
    pub fn hit_again(&mut self) -> Option<Hit> {
        self.looks = Looks::default();
        self.asked_ns = facts::now_ns();
        self.hit()
    }

    /// Why facts that are true now give no answer; `None`: none are, or they do.
    pub fn missed(&self) -> Option<&'static str> {
        let found = self.manifest.find(&mut Looks::default(), self.asked_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        match answer.and_then(Answer::read) {
            None => Some("the entry itself is gone"),
            Some(answer) if !answer.fits(&self.terminal) => {
                Some("what it said was for another kind of terminal")
            }
            Some(_) => None,
        }
    }

    /// Whether there is an answer to a text.
    pub fn knows_text(&self, text: &Key) -> bool {
        self.cache.read(text_name(text)).is_some()
    }

    /// To be called before a compile whose result shall be kept: waits for the
    /// clock to pass the times of the files, so that one that is written from
    /// now on is seen to be. Nanoseconds since 1970.
    pub fn begin(&mut self, source: &[u8]) -> i64 {
        let _ = self.looks.at(source);
        let youngest_ns = self.looks.youngest_ns();
        for _ in 0..TICK_MS_MAX {
            let now_ns = facts::now_ns();
            // What is younger than now has a time of its own making.
            if now_ns > youngest_ns || youngest_ns - now_ns > 1_000_000_000 {
                return now_ns;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        facts::now_ns()
    }
}

/// Where the manifest of a question lies.
pub fn manifest_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Manifest,
    }
}

/// Where the answer to a text lies.
pub fn text_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Result,
    }
}

/// Where an answer lies; `None`: that is no answer's key.
pub fn answer_name(key: &Bytes) -> Option<Name> {
    Some(Name {
        key: key[..].try_into().ok()?,
        kind: Kind::Result,
    })
}

/// Where the last question about a source is kept, to be compared with the next.
pub fn trail_name(folder: &Path, source: &[u8]) -> Name {
    let mut key = Key::default();
    key.add("trail", os::bytes(folder.as_os_str()));
    key.add("source", source);
    Name {
        key: key.digest(),
        kind: Kind::Trail,
    }
}
