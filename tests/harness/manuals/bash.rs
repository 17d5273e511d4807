//! Completion for bash: it follows the words that are there through a table of commands,
//! and offers what may come next. Made for bash 3.2, which macOS has, and later.

use argh::FlagInfoKind;

use super::value::{self, Value};
use super::{Command, Manual, commands, flags, spellings};

/// The script of a program.
pub fn script(manual: &Manual) -> String {
    let name = manual.program.name;
    let function = name.replace('-', "_");
    let commands = commands(manual);
    format!(
        "# Completion of {name} for bash. Made by 'cargo run -p hg-tests --bin manuals':\n\
         # change the program's table instead.\n\
         \n\
         _{function}() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} words=(\"${{COMP_WORDS[@]}}\") cword=$COMP_CWORD\n    \
             # An address is one word, although readline ends words at colons.\n    \
             if declare -F _get_comp_words_by_ref >/dev/null; then\n        \
                 _get_comp_words_by_ref -n =: cur words cword\n    \
             fi\n    \
             local at='{name}' option='' i\n    \
             COMPREPLY=()\n    \
             for ((i = 1; i < cword; i++)); do\n        \
                 if [[ -n $option ]]; then\n            \
                     option=''\n            \
                     continue\n        \
                 fi\n        \
                 case \"$at ${{words[i]}}\" in\n\
         {steps}        \
                 esac\n    \
             done\n    \
             case \"$at $option\" in\n\
         {values}        \
                 *' ') ;;\n        \
                 *) return ;;\n    \
             esac\n    \
             case \"$at\" in\n\
         {offers}    \
             esac\n\
         }}\n\
         \n\
         complete -F _{function} {name}\n",
        steps = commands
            .iter()
            .rev()
            .map(|command| steps(command, manual))
            .collect::<String>(),
        values = commands.iter().map(values).collect::<String>(),
        offers = commands
            .iter()
            .map(|command| offer(command, manual))
            .collect::<String>(),
    )
}

/// How words lead from a command to those below it, and which options have a value.
fn steps(command: &Command<'_>, manual: &Manual) -> String {
    let at = command.words();
    let mut lines = String::new();
    for below in &command.table.commands {
        let name = below.name;
        lines.push_str(&format!("            '{at} {name}') at='{at} {name}' ;;\n"));
    }
    let valued =
        flags(command.table).filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }));
    let valued: Vec<String> = valued
        .flat_map(spellings)
        .map(|name| format!("'{at} {name}'"))
        .collect();
    if !valued.is_empty() {
        lines.push_str(&format!(
            "            {}) option=${{words[i]}} ;;\n",
            valued.join(" | ")
        ));
    }
    lines.push_str(&format!("            '{at} -'*) ;;\n"));
    if manual.leads(command) {
        // A compiler or a build command: what follows is its own.
        lines.push_str(&format!(
            "            '{at} '*)\n                \
             declare -F _command_offset >/dev/null && _command_offset \"$i\"\n                \
             return ;;\n"
        ));
    }
    lines
}

/// What the value of an option may be.
fn values(command: &Command<'_>) -> String {
    let at = command.words();
    let mut lines = String::new();
    for flag in flags(command.table) {
        let FlagInfoKind::Option { arg_name } = flag.kind else {
            continue;
        };
        let offered = compgen(&value::of(arg_name));
        if offered.is_empty() {
            continue;
        }
        let names: Vec<String> = spellings(flag)
            .iter()
            .map(|name| format!("'{at} {name}'"))
            .collect();
        lines.push_str(&format!(
            "        {}) {offered} && return ;;\n",
            names.join(" | ")
        ));
    }
    lines
}

/// What may come next in a command.
fn offer(command: &Command<'_>, manual: &Manual) -> String {
    let mut options: Vec<String> = flags(command.table).flat_map(spellings).collect();
    options.extend(["-h".into(), "--help".into()]);
    let names: Vec<&str> = command
        .table
        .commands
        .iter()
        .map(|below| below.name)
        .collect();
    let mut others = Vec::new();
    if !names.is_empty() {
        others.push(words(&names));
    }
    if manual.leads(command) {
        others.push("compgen -c -- \"$cur\"".into());
    }
    for positional in command.table.positionals {
        let offered = generators(&value::of(positional.name));
        others.extend(offered);
    }
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("\n            else\n                {}", reply(&others)),
    };
    format!(
        "        '{}')\n            if [[ $cur == -* ]]; then\n                \
         {}{others}\n            fi ;;\n",
        command.words(),
        reply(&[words(&options)]),
    )
}

fn compgen(value: &Value<'_>) -> String {
    match generators(value) {
        none if none.is_empty() => String::new(),
        some => reply(&some),
    }
}

fn generators(value: &Value<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if !value.words.is_empty() {
        all.push(words(&value.words));
    }
    for (is, flag) in [
        (value.file, "-f"),
        (value.folder, "-d"),
        (value.command, "-c"),
    ] {
        if is {
            all.push(format!("compgen {flag} -- \"$cur\""));
        }
    }
    all
}

/// Words one a line, by which they are split there.
fn words<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    format!("compgen -W $'{}' -- \"$cur\"", words.join("\\n"))
}

/// One candidate a line, so that names may have spaces in them.
fn reply(generators: &[String]) -> String {
    format!("local IFS=$'\\n'; COMPREPLY=($({}))", generators.join("; "))
}
