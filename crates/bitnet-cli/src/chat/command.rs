//! What may be said to a chat instead of a question.

use std::path::Path;

/// The commands, for people.
pub(super) const HELP: &str = "\
/help               this list
/clear              forget what was said, except by the system
/history            show what was said
/save FILE          write messages and settings to a file
/load FILE          go on with a saved chat
/system [TEXT]      have the system say TEXT, or nothing
/set [NAME VALUE]   change a setting, or show all of them
/stats              speed, context used, tokens read and kept
/exit               end the chat
";

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Help,
    Clear,
    History,
    Save(&'a Path),
    Load(&'a Path),
    System(Option<&'a str>),
    /// The settings.
    Show,
    Set(&'a str, &'a str),
    Stats,
    Exit,
}

impl<'a> Command<'a> {
    /// The command in a line; `None` in a question.
    ///
    /// Errors: why it is none that can be obeyed.
    pub(super) fn parse(line: &'a str) -> Result<Option<Self>, String> {
        let Some(line) = line.strip_prefix('/') else { return Ok(None) };
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let alone = |command| match rest {
            "" => Ok(command),
            _ => Err(format!("/{name} takes nothing behind it")),
        };
        let file = |command: fn(&'a Path) -> Self| match rest {
            "" => Err(format!("/{name} needs the name of a file")),
            path => Ok(command(Path::new(path))),
        };
        let command = match name {
            "help" => alone(Self::Help),
            "clear" => alone(Self::Clear),
            "history" => alone(Self::History),
            "stats" => alone(Self::Stats),
            "exit" | "quit" => alone(Self::Exit),
            "save" => file(Self::Save),
            "load" => file(Self::Load),
            "system" => Ok(Self::System(Some(rest).filter(|text| !text.is_empty()))),
            "set" if rest.is_empty() => Ok(Self::Show),
            "set" => match rest.split_once(char::is_whitespace) {
                Some((name, value)) => Ok(Self::Set(name, value.trim())),
                None => Err(format!("/set {rest} needs a value")),
            },
            _ => Err(format!("there is no /{name}; /help lists the commands")),
        };
        command.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_questions() {
        for (line, command) in [
            ("/help", Command::Help),
            ("/save  a file.json", Command::Save(Path::new("a file.json"))),
            ("/system You are brief.", Command::System(Some("You are brief."))),
            ("/system", Command::System(None)),
            ("/set", Command::Show),
            ("/set temperature  0.7", Command::Set("temperature", "0.7")),
            ("/quit", Command::Exit),
        ] {
            assert_eq!(Command::parse(line), Ok(Some(command)), "{line}");
        }
        assert_eq!(Command::parse("What does /help do?"), Ok(None));
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (line, fact) in [
            ("/", "there is no /;"),
            ("/halp me", "there is no /halp; /help lists"),
            ("/clear all", "/clear takes nothing"),
            ("/load", "/load needs the name of a file"),
            ("/set seed", "/set seed needs a value"),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert!(error.starts_with(fact), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_command() {
        for line in HELP.lines() {
            let name = line.split_whitespace().next().unwrap();
            let parsed = Command::parse(name);
            assert!(!matches!(&parsed, Err(error) if error.starts_with("there is no")), "{parsed:?}");
        }
        assert_eq!(HELP.lines().count(), 9);
    }
}
