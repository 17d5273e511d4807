//! A manual page in roff's man macros.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

use super::{HELP, Manual, commands, flags, spellings};

/// The page of a program.
pub fn page(manual: &Manual) -> String {
    let name = manual.program.name;
    let mut text = format!(
        ".\\\" Made by 'cargo run -p hg-tests --bin manuals': change the program's table instead.\n\
         .TH {} 1 \"\" \"Hybrid-Grid\" \"User Commands\"\n",
        name.to_uppercase()
    );
    let about = manual.table.description;
    let brief = about.split(['.', ':']).next().unwrap_or(about);
    section(&mut text, "NAME");
    line(&mut text, &format!("{name} \\- {}", plain(&lower(brief))));
    section(&mut text, "SYNOPSIS");
    synopsis(&mut text, manual);
    section(&mut text, "DESCRIPTION");
    paragraph(&mut text, about);
    notes(&mut text, manual.table.notes);
    section(&mut text, "OPTIONS");
    options(&mut text, &manual.table);
    section(&mut text, "COMMANDS");
    for command in commands(manual).iter().skip(1) {
        text.push_str(&format!(
            ".SS \"{}\"\n",
            plain(&usage(&command.words(), command.table))
        ));
        paragraph(&mut text, &sentence(command.table.description));
        positionals(&mut text, command.table.positionals);
        options(&mut text, command.table);
        notes(&mut text, command.table.notes);
        examples(&mut text, command.table.examples, &command.words());
        for code in command.table.error_codes {
            paragraph(
                &mut text,
                &format!("Exit status {}: {}", code.code, code.description),
            );
        }
    }
    section(&mut text, "ENVIRONMENT");
    for (variable, meaning) in manual.program.environment {
        item(&mut text, &bold(variable), meaning);
    }
    section(&mut text, "FILES");
    for (file, meaning) in manual.files {
        item(&mut text, &format!("\\fI{}\\fR", plain(file)), meaning);
    }
    section(&mut text, "EXIT STATUS");
    item(&mut text, "0", "all went well.");
    for code in manual.table.error_codes {
        item(&mut text, &code.code.to_string(), code.description);
    }
    if !manual.table.examples.is_empty() {
        section(&mut text, "EXAMPLES");
        examples(&mut text, manual.table.examples, name);
    }
    section(&mut text, "SEE ALSO");
    let others = ["hgbuild", "hg-coord", "hg-worker-lite"];
    let others = others.iter().filter(|other| **other != name);
    let others: Vec<String> = others.map(|other| format!("{}(1)", bold(other))).collect();
    line(&mut text, &others.join(", "));
    text
}

fn synopsis(text: &mut String, manual: &Manual) {
    let name = bold(manual.program.name);
    let own = "[\\fIOPTIONS\\fR]";
    let mut lines = vec![format!("{name} {own} \\fICOMMAND\\fR [\\fIARGS\\fR]...")];
    if manual.leads.contains(&manual.program.name) {
        lines.insert(
            0,
            format!("{name} {own} \\fICOMPILER\\fR [\\fIARGS\\fR]..."),
        );
        lines.insert(
            1,
            format!("{name} {own} [\\fB\\-\\-\\fR] \\fIBUILD COMMAND\\fR [\\fIARGS\\fR]..."),
        );
    }
    line(text, &lines.join("\n.br\n"));
}

/// `hgbuild join [OPTIONS] [TOKEN]`.
fn usage(words: &str, table: &CommandInfoWithArgs) -> String {
    let mut usage = words.to_owned();
    for flag in flags(table).filter(|flag| matches!(flag.optionality, Optionality::Required)) {
        if let FlagInfoKind::Option { arg_name } = flag.kind {
            usage.push_str(&format!(" {} {arg_name}", flag.long));
        }
    }
    if flags(table).any(|flag| !matches!(flag.optionality, Optionality::Required)) {
        usage.push_str(" [OPTIONS]");
    }
    for positional in table.positionals.iter().filter(|one| !one.hidden) {
        usage.push_str(&match positional.optionality {
            Optionality::Required => format!(" {}", positional.name),
            Optionality::Optional => format!(" [{}]", positional.name),
            Optionality::Repeating | Optionality::Greedy => format!(" [{}]...", positional.name),
        });
    }
    if !table.commands.is_empty() {
        usage.push_str(" COMMAND");
    }
    usage
}

fn options(text: &mut String, table: &CommandInfoWithArgs) {
    for flag in flags(table) {
        item(text, &option(flag), flag.description);
    }
    let help = format!("{}, {}", bold("-h"), bold("--help"));
    item(text, &help, HELP);
}

/// `-v, --verbose` or `--listen ADDR:PORT`.
fn option(flag: &FlagInfo<'_>) -> String {
    let names: Vec<String> = spellings(flag).iter().map(|name| bold(name)).collect();
    let names = names.join(", ");
    match flag.kind {
        FlagInfoKind::Switch => names,
        FlagInfoKind::Option { arg_name } => format!("{names} \\fI{}\\fR", plain(arg_name)),
    }
}

fn positionals(text: &mut String, positionals: &[PositionalInfo<'_>]) {
    for positional in positionals.iter().filter(|one| !one.hidden) {
        let name = format!("\\fI{}\\fR", plain(positional.name));
        item(text, &name, positional.description);
    }
}

fn notes(text: &mut String, notes: &[&str]) {
    for note in notes {
        paragraph(text, note);
    }
}

fn examples(text: &mut String, examples: &[&str], words: &str) {
    for example in examples {
        let example = example.replace("{command_name}", words);
        text.push_str(&format!(
            ".PP\n.nf\n.RS\n{}\n.RE\n.fi\n",
            guarded(&plain(&example))
        ));
    }
}

fn section(text: &mut String, name: &str) {
    text.push_str(&format!(
        ".SH {}\n",
        if name.contains(' ') {
            format!("\"{name}\"")
        } else {
            name.into()
        }
    ));
}

fn paragraph(text: &mut String, words: &str) {
    text.push_str(".PP\n");
    line(text, &plain(words));
}

/// `head` is roff already.
fn item(text: &mut String, head: &str, words: &str) {
    text.push_str(&format!(".TP\n{head}\n"));
    line(text, &plain(words));
}

fn line(text: &mut String, words: &str) {
    text.push_str(&guarded(words));
    text.push('\n');
}

/// `words` so that roff prints them as they are.
fn plain(words: &str) -> String {
    let words = words
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('~', "\\(ti");
    words
        .replace('^', "\\(ha")
        .replace('`', "\\(ga")
        .replace('\'', "\\(aq")
        .replace('"', "\\(dq")
}

fn bold(words: &str) -> String {
    format!("\\fB{}\\fR", plain(words))
}

/// No line of `words` is taken for a macro's, except `.br`.
fn guarded(words: &str) -> String {
    let guard = |line: &str| match line.starts_with(['.', '\'']) && line != ".br" {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    words.lines().map(guard).collect::<Vec<_>>().join("\n")
}

/// Descriptions of commands begin with a small letter in some programs, and end openly.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let end = if words.ends_with('.') { "" } else { "." };
    first
        .into_iter()
        .chain(letters)
        .chain(end.chars())
        .collect()
}

fn lower(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
