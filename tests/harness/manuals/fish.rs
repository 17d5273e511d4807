//! Completion for fish: conditions on the commands that were typed so far.

use argh::{FlagInfo, FlagInfoKind};

use super::value;
use super::{Command, HELP, Manual, commands, flags, short};

/// The script of a program.
pub fn script(manual: &Manual) -> String {
    let name = manual.program.name;
    let commands = commands(manual);
    let mut text = format!(
        "# Completion of {name} for fish. Made by 'cargo run -p hg-tests --bin manuals': change\n\
         # the program's table instead.\n\n{}",
        at(manual, &commands)
    );
    text.push_str(&format!("complete -c {name} -f\n"));
    text.push_str(&format!("complete -c {name} -s h -l help -d '{HELP}'\n"));
    for command in &commands {
        let at = format!("-n '{} \"{}\"'", condition(name), command.words());
        for flag in flags(command.table) {
            text.push_str(&format!("complete -c {name} {at} {}\n", option(flag)));
        }
        for below in &command.table.commands {
            let about = quoted(short(below.command.description));
            text.push_str(&format!(
                "complete -c {name} {at} -a {} -d {about}\n",
                below.name
            ));
        }
        if manual.leads(command) {
            text.push_str(&format!(
                "complete -c {name} {at} -a '(__fish_complete_command)'\n"
            ));
        }
        for positional in command.table.positionals.iter().filter(|one| !one.hidden) {
            if let Some(offered) = offered(positional.name) {
                text.push_str(&format!("complete -c {name} {at} {offered}\n"));
            }
        }
    }
    if !manual.leads.is_empty() {
        let foreign = format!("-n '{} foreign'", condition(name));
        text.push_str(&format!(
            "complete -c {name} {foreign} -a '(__fish_complete_subcommand)'\n"
        ));
    }
    text
}

fn condition(name: &str) -> String {
    format!("__{}_at", name.replace('-', "_"))
}

/// The function that says whether the words so far lead to a command.
fn at(manual: &Manual, commands: &[Command<'_>]) -> String {
    let name = manual.program.name;
    let mut cases = String::new();
    for command in commands.iter().rev() {
        let at = command.words();
        for below in &command.table.commands {
            let below = below.name;
            cases.push_str(&format!(
                "            case '{at} {below}'\n                set at '{at} {below}'\n"
            ));
        }
        let valued =
            flags(command.table).filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }));
        let valued: Vec<String> = valued.map(|flag| format!("'{at} {}'", flag.long)).collect();
        if !valued.is_empty() {
            cases.push_str(&format!(
                "            case {}\n                set skip yes\n",
                valued.join(" ")
            ));
        }
        cases.push_str(&format!("            case '{at} -*'\n"));
        if manual.leads(command) {
            cases.push_str(&format!(
                "            case '{at} *'\n                set at foreign\n                break\n"
            ));
        }
    }
    format!(
        "function {}\n    \
             set -l words (commandline -xpc 2>/dev/null; or commandline -opc)\n    \
             set -l at '{name}'\n    \
             set -l skip no\n    \
             for word in $words[2..-1]\n        \
                 if test $skip = yes\n            \
                     set skip no\n            \
                     continue\n        \
                 end\n        \
                 switch \"$at $word\"\n\
         {cases}        \
                 end\n    \
             end\n    \
             test \"$at\" = \"$argv[1]\"\n\
         end\n\n",
        condition(name)
    )
}

fn option(flag: &FlagInfo<'_>) -> String {
    let short_name = flag
        .short
        .map_or(String::new(), |short| format!("-s {short} "));
    let long = flag.long.trim_start_matches('-');
    let about = quoted(short(flag.description));
    let value = match flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => match offered(arg_name) {
            Some(offered) => format!(" -r {offered}"),
            None => " -x".into(),
        },
    };
    format!("{short_name}-l {long}{value} -d {about}")
}

fn offered(name: &str) -> Option<String> {
    let value = value::of(name);
    let mut words = value.words.join(" ");
    if value.folder {
        words.push_str(" (__fish_complete_directories)");
    }
    if value.command {
        words.push_str(" (__fish_complete_command)");
    }
    match words.is_empty() {
        true => value.file.then(|| "-F".into()),
        false => Some(format!("-a '{}'", words.trim_start())),
    }
}

/// As one word of fish.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
