//! Completion for zsh: one function for each command, over `_arguments`.

use argh::{FlagInfo, FlagInfoKind, Optionality};

use super::value;
use super::{Command, HELP, Manual, commands, flags, short, spellings};

/// The script of a program.
pub fn script(manual: &Manual) -> String {
    let name = manual.program.name;
    let mut text = format!(
        "#compdef {name}\n\
         # Completion of {name} for zsh. Made by 'cargo run -p hg-tests --bin manuals': change\n\
         # the program's table instead.\n"
    );
    for command in commands(manual).iter().rev() {
        text.push_str(&function(command, manual));
    }
    text.push_str(&format!(
        "\n{} \"$@\"\n",
        function_name(&command_path(manual))
    ));
    text
}

fn command_path(manual: &Manual) -> Vec<&str> {
    vec![manual.program.name]
}

fn function_name(path: &[&str]) -> String {
    format!("_{}", path.join("_").replace('-', "_"))
}

fn function(command: &Command<'_>, manual: &Manual) -> String {
    let leads = manual.leads(command);
    let has_commands = leads || !command.table.commands.is_empty();
    let mut lines = vec![format!("'(- *)'{{-h,--help}}'[{HELP}]'")];
    lines.extend(flags(command.table).map(option));
    if has_commands {
        lines.push("': :->command'".into());
        lines.push("'*:: :->rest'".into());
    }
    for positional in command.table.positionals.iter().filter(|one| !one.hidden) {
        let many = match positional.optionality {
            Optionality::Required => "",
            Optionality::Optional => ":",
            Optionality::Repeating | Optionality::Greedy => "*",
        };
        let name = positional.name;
        lines.push(
            format!(
                "'{}:{name}:{}'",
                if many == ":" { "1:" } else { many },
                action(name)
            )
            .replace("1::", "::"),
        );
    }
    let head = "    local context state state_descr line\n    typeset -A opt_args\n";
    let arguments = format!(
        "    _arguments -S -A '-*' \\\n        {}",
        lines.join(" \\\n        ")
    );
    let body = match has_commands {
        false => format!("{arguments}\n"),
        true => format!("{head}{arguments} && return\n{}", states(command, leads)),
    };
    format!("\n{}() {{\n{body}}}\n", function_name(&command.path))
}

/// What comes where `_arguments` is at a command's name, or behind it.
fn states(command: &Command<'_>, leads: bool) -> String {
    let mut text =
        String::from("    case $state in\n        command)\n            local -a commands=(\n");
    for below in &command.table.commands {
        let about = quoted(short(below.command.description)).replace(':', "\\:");
        text.push_str(&format!("                '{}:{about}'\n", below.name));
    }
    text.push_str("            )\n            _describe -t commands command commands\n");
    if leads {
        text.push_str("            _command_names -e\n");
    }
    text.push_str("            ;;\n        rest)\n            case $words[1] in\n");
    for below in &command.table.commands {
        let path: Vec<&str> = command.path.iter().copied().chain([below.name]).collect();
        text.push_str(&format!(
            "                {}) {} ;;\n",
            below.name,
            function_name(&path)
        ));
    }
    if leads {
        text.push_str("                *) _normal ;;\n");
    }
    text.push_str("            esac\n            ;;\n    esac\n");
    text
}

fn option(flag: &FlagInfo<'_>) -> String {
    let about = quoted(short(flag.description)).replace(['[', ']'], "");
    let names = spellings(flag);
    let repeats = matches!(flag.optionality, Optionality::Repeating);
    let value = match flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => {
            format!(":{}:{}", arg_name.replace(':', "\\:"), action(arg_name))
        }
    };
    let equals = if value.is_empty() { "" } else { "=" };
    match (&names[..], repeats) {
        ([long], false) => format!("'{long}{equals}[{about}]{value}'"),
        ([long], true) => format!("'*{long}{equals}[{about}]{value}'"),
        (all, _) => format!(
            "'({})'{{{}}}'[{about}]{value}'",
            all.join(" "),
            all.join(",")
        ),
    }
}

fn action(name: &str) -> String {
    let value = value::of(name);
    match () {
        () if value.folder && !value.words.is_empty() => {
            format!("{{ compadd {}; _files -/ }}", value.words.join(" "))
        }
        () if !value.words.is_empty() => format!("({})", value.words.join(" ")),
        () if value.file => "_files".into(),
        () if value.folder => "_files -/".into(),
        () if value.command => "_command_names -e".into(),
        () => String::new(),
    }
}

/// Within single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}
