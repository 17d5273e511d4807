//! Command lines as people know them, over argh: `--flag=value`, `-h`, `-V`, what was
//! likely meant, and errors that name the command and the way to its help. Reads the table
//! that argh has of a program. Not pure: reads what was typed, and prints.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use argh::{
    ArgsInfo, CommandInfoWithArgs, EarlyExit, FlagInfo, FlagInfoKind, FromArgs, SubCommandInfo,
};

/// Exit code for a command line that is wrong, or that names what is wrong or taken.
pub const USAGE: u8 = 2;

/// How alike two words must be, 0 to 1, for one to be a misspelling of the other.
const LIKENESS_MIN: f64 = 0.75;

/// Of what argh prints, and as others spell it.
const WORDS: [(&str, &str); 2] = [
    ("\nError codes:", "\nExit codes:"),
    ("\n  --help, help      ", "\n  -h, --help        "),
];

/// What a program says of itself beside its table.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As it is installed.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Environment variables that it heeds, and what they mean.
    pub environment: &'static [(&'static str, &'static str)],
}

/// Text instead of a run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// What to print, with its last newline.
    pub text: String,
    /// It was asked for (`--help`, `--version`): to stdout, with exit code 0. Else to
    /// stderr, with [`USAGE`].
    pub asked_for: bool,
}

impl Usage {
    /// Prints it to where it belongs, and gives the exit code.
    pub fn print(&self) -> u8 {
        // Nobody is there to read it.
        match self.asked_for {
            true => drop(std::io::stdout().write_all(self.text.as_bytes())),
            false => drop(std::io::stderr().write_all(self.text.as_bytes())),
        }
        if self.asked_for { 0 } else { USAGE }
    }
}

impl Program {
    /// What was typed.
    ///
    /// # Errors
    /// The exit code, when all has been said: it is wrong, or asks for help or the version.
    pub fn typed<T: FromArgs + ArgsInfo>(&self) -> Result<T, ExitCode> {
        let words: Result<Vec<String>, OsString> =
            env::args_os().skip(1).map(OsString::into_string).collect();
        let typed = match &words {
            Ok(words) => self.parse(&words.iter().map(String::as_str).collect::<Vec<_>>()),
            Err(word) => Err(self.wrong(&[], &format!("not UTF-8: {}", word.to_string_lossy()))),
        };
        typed.map_err(|usage| ExitCode::from(usage.print()))
    }

    /// What `words` (without the program's name) say.
    ///
    /// # Errors
    /// They are wrong, or ask for help or the version.
    pub fn parse<T: FromArgs + ArgsInfo>(&self, words: &[&str]) -> Result<T, Usage> {
        let root = T::get_args_info();
        let mut reading = Reading::new(self, &root);
        reading.read(words)?;
        let words: Vec<&str> = reading.words.iter().map(String::as_str).collect();
        T::from_args(&[self.name], &words).map_err(|early| self.usage(&early, &reading.command))
    }

    /// Whether `word`, one of the program's own options, has the next word for its value.
    pub fn takes_value<T: ArgsInfo>(&self, word: &str) -> bool {
        let table = T::get_args_info();
        let flag = table.flags.iter().find(|flag| is_named(flag, word));
        flag.is_some_and(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }))
    }

    /// Version, commit and target: `1.2.3 (0a1b2c3 aarch64-unknown-linux-gnu)`. Which commit
    /// is known where the build was told, as releases are.
    fn build(&self) -> String {
        let commit = option_env!("HG_COMMIT").unwrap_or_default();
        let known = [commit, env!("HG_TARGET")];
        let known: Vec<&str> = known.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{} ({})", self.version, known.join(" "))
    }

    fn usage(&self, early: &EarlyExit, command: &[&str]) -> Usage {
        match early.status {
            Ok(()) => {
                let mut text = early.output.trim_end().to_owned();
                for (argh, ours) in WORDS {
                    text = text.replace(argh, ours);
                }
                if command.is_empty() {
                    self.list_environment(&mut text);
                }
                text.push('\n');
                Usage {
                    text,
                    asked_for: true,
                }
            }
            Err(()) => self.wrong(command, early.output.trim_end()),
        }
    }

    /// A command line that is wrong: `why` in words, and where there are more.
    pub fn wrong(&self, command: &[&str], why: &str) -> Usage {
        let command = [&[self.name], command].concat().join(" ");
        Usage {
            text: format!("{command}: {why}\nRun '{command} --help' for more.\n"),
            asked_for: false,
        }
    }

    fn list_environment(&self, text: &mut String) {
        if self.environment.is_empty() {
            return;
        }
        let width = self.environment.iter().map(|(name, _)| name.len()).max();
        text.push_str("\n\nEnvironment:");
        for (name, meaning) in self.environment {
            let width = width.unwrap_or(0);
            text.push_str(&format!("\n  {name:width$}  {meaning}"));
        }
    }
}

/// Goes through words with the table of the command that they are of.
struct Reading<'a> {
    program: &'a Program,
    at: &'a CommandInfoWithArgs,
    /// Names of the subcommands so far.
    command: Vec<&'a str>,
    /// As argh wants them.
    words: Vec<String>,
}

impl<'a> Reading<'a> {
    fn new(program: &'a Program, root: &'a CommandInfoWithArgs) -> Self {
        Reading {
            program,
            at: root,
            command: Vec::new(),
            words: Vec::new(),
        }
    }

    fn read(&mut self, words: &[&str]) -> Result<(), Usage> {
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--" => {
                    self.words.push(word.to_owned());
                    self.words.extend(words.map(|word| (*word).to_owned()));
                    return Ok(());
                }
                "-h" | "--help" => self.words.push("--help".to_owned()),
                "-V" | "--version" => {
                    return Err(Usage {
                        text: format!("{} {}\n", self.program.name, self.program.build()),
                        asked_for: true,
                    });
                }
                _ if word.starts_with('-') => {
                    if self.flag(word)? {
                        self.words
                            .extend(words.next().map(|word| (*word).to_owned()));
                    }
                }
                _ => self.word(word)?,
            }
        }
        Ok(())
    }

    /// Says whether the next word is its value.
    fn flag(&mut self, word: &str) -> Result<bool, Usage> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let Some(flag) = self.at.flags.iter().find(|flag| is_named(flag, name)) else {
            let names = self.at.flags.iter().map(|flag| flag.long);
            let known = names.chain(["--help", "--version"]);
            return Err(self.unknown("option", name, known));
        };
        let takes_value = matches!(flag.kind, FlagInfoKind::Option { .. });
        if value.is_some() && !takes_value {
            let why = format!("{name} takes no value");
            return Err(self.program.wrong(&self.command, &why));
        }
        self.words.push(name.to_owned());
        self.words.extend(value.map(str::to_owned));
        Ok(takes_value && value.is_none())
    }

    fn word(&mut self, word: &str) -> Result<(), Usage> {
        let commands = &self.at.commands;
        let is_named = |command: &&SubCommandInfo| command.name == word;
        match commands.iter().find(is_named) {
            Some(command) => {
                self.command.push(command.name);
                self.at = &command.command;
            }
            None if commands.is_empty() || word == "help" => {}
            None => {
                let known = commands.iter().map(|command| command.name);
                return Err(self.unknown("command", word, known));
            }
        }
        self.words.push(match word {
            "help" if !self.at.commands.is_empty() => "--help".to_owned(),
            _ => word.to_owned(),
        });
        Ok(())
    }

    fn unknown<'b>(&self, kind: &str, word: &str, known: impl Iterator<Item = &'b str>) -> Usage {
        let meant = match likely(word, known) {
            Some(meant) => format!("; did you mean '{meant}'?"),
            None => String::new(),
        };
        let why = format!("no {kind} '{word}'{meant}");
        self.program.wrong(&self.command, &why)
    }
}

fn is_named(flag: &FlagInfo<'_>, name: &str) -> bool {
    let mut characters = name.strip_prefix('-').unwrap_or_default().chars();
    let short = characters.next().filter(|_| characters.next().is_none());
    flag.long == name || (short.is_some() && flag.short == short)
}

/// Which of `known` somebody who wrote `word` may have meant.
pub fn likely<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known| (strsim::jaro_winkler(word, known), known);
    let known = known.into_iter().map(likeness);
    let (best, meant) = known.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best >= LIKENESS_MIN).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tends things.
    #[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
    struct Args {
        /// print the version
        #[argh(switch)]
        version: bool,
        /// say more
        #[argh(switch, short = 'v')]
        verbose: bool,
        #[argh(subcommand)]
        command: Option<Command>,
    }

    #[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
    #[argh(subcommand)]
    enum Command {
        Serve(Serve),
    }

    /// Serves.
    #[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
    #[argh(subcommand, name = "serve")]
    struct Serve {
        /// where
        #[argh(option, arg_name = "HOST:PORT")]
        listen: Option<String>,
        /// for programs
        #[argh(switch)]
        json: bool,
        /// what
        #[argh(positional, arg_name = "THING")]
        things: Vec<String>,
    }

    const PROGRAM: Program = Program {
        name: "tend",
        version: "1.2.3",
        environment: &[("TEND_LOG", "how much is said")],
    };

    fn serve(words: &[&str]) -> Serve {
        let args: Args = PROGRAM.parse(words).unwrap();
        let Some(Command::Serve(serve)) = args.command else {
            panic!("{words:?}");
        };
        serve
    }

    fn usage(words: &[&str]) -> Usage {
        PROGRAM.parse::<Args>(words).unwrap_err()
    }

    #[test]
    fn a_value_is_the_next_word_or_behind_an_equals_sign() {
        for words in [
            &["serve", "--listen", "a=b:1"][..],
            &["serve", "--listen=a=b:1"],
            &["-v", "serve", "--listen=a=b:1"],
        ] {
            assert_eq!(serve(words).listen.as_deref(), Some("a=b:1"), "{words:?}");
        }
        assert_eq!(serve(&["serve", "--listen="]).listen.as_deref(), Some(""));
        // Whatever it looks like.
        let odd = serve(&["serve", "--listen", "--help"]);
        assert_eq!(odd.listen.as_deref(), Some("--help"));
        assert_eq!(serve(&["serve", "--", "--json=1"]).things, ["--json=1"]);
        let wrong = usage(&["serve", "--json=1"]);
        assert!(wrong.text.contains("--json takes no value"), "{wrong:?}");
    }

    #[test]
    fn help_and_version_are_everywhere() {
        for words in [
            &["--help"][..],
            &["-h"],
            &["help"],
            &["serve", "-h"],
            &["serve", "--json", "--help"],
        ] {
            let help = usage(words);
            assert!(
                help.asked_for && help.text.starts_with("Usage: tend"),
                "{help:?}"
            );
            let is_root = !words.contains(&"serve");
            assert_eq!(
                help.text.contains("TEND_LOG  how much"),
                is_root,
                "{help:?}"
            );
            assert_eq!(help.text.contains("<HOST:PORT>"), !is_root, "{help:?}");
            assert!(help.text.contains("\n  -h, --help "), "{help:?}");
        }
        for words in [&["-V"][..], &["--version"], &["serve", "-V"]] {
            let version = usage(words);
            assert!(version.asked_for, "{words:?}");
            let target = env!("HG_TARGET");
            assert!(version.text.starts_with("tend 1.2.3 ("), "{version:?}");
            assert!(
                version.text.ends_with(&format!("{target})\n")),
                "{version:?}"
            );
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_what_was_meant() {
        for (words, said) in [
            (
                &["--verbos"][..],
                "tend: no option '--verbos'; did you mean '--verbose'?\nRun 'tend --help' for more.\n",
            ),
            (
                &["sevre"],
                "tend: no command 'sevre'; did you mean 'serve'?\nRun 'tend --help' for more.\n",
            ),
            (
                &["quiet"],
                "tend: no command 'quiet'\nRun 'tend --help' for more.\n",
            ),
            (
                &["serve", "--lisen=a:1"],
                "tend serve: no option '--lisen'; did you mean '--listen'?\nRun 'tend serve --help' for more.\n",
            ),
            (
                &["serve", "-x"],
                "tend serve: no option '-x'\nRun 'tend serve --help' for more.\n",
            ),
            (
                &["serve", "--listen"],
                "tend serve: No value provided for option '--listen'.\nRun 'tend serve --help' for more.\n",
            ),
        ] {
            let wrong = usage(words);
            assert!(!wrong.asked_for);
            assert_eq!(wrong.text, said);
        }
    }
}
