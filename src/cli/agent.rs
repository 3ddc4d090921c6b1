//! Coding agents: whether one has called this program, told by the variables that agents set, and what
//! one should know.

use crate::process::Environment;

/// What `config agents` prints, for an AGENTS.md.
pub(super) const INSTRUCTIONS: &str = include_str!("agents.md");

/// Variables of agents, and those by which any agent may say that it is one.
const VARIABLES: [&str; 7] =
    ["AGENT", "AI_AGENT", "CLAUDECODE", "CURSOR_AGENT", "GEMINI_CLI", "OPENCODE", "REPLIT_AGENT"];

/// The prefix of an agent's own variables, and the one of them that a person sets.
const PREFIX: (&str, &str) = ("CODEX_", "CODEX_HOME");

/// Whether the variable of any agent is set and not empty.
pub(super) fn calls(environment: &Environment) -> bool {
    environment.iter().any(|(name, value)| {
        let is_agents = name.to_str().is_some_and(|name| {
            VARIABLES.contains(&name) || (name.starts_with(PREFIX.0) && name != PREFIX.1)
        });
        is_agents && !value.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each command in the instructions is one of this program, with options that it has.
    #[test]
    fn the_instructions_are_ten_lines_that_are_true() {
        use clap::Parser as _;

        assert_eq!(INSTRUCTIONS.lines().count(), 10);
        let commands: Vec<_> = INSTRUCTIONS
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with("knhk-test-cache "))
            .map(|code| code.replace(['[', ']'], ""))
            .collect();
        assert_eq!(commands.len(), 5);
        for command in commands {
            let parsed = crate::cli::args::Cli::try_parse_from(command.split(' '));
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
    }

    #[test]
    fn an_agent_is_known_by_a_variable_that_is_not_empty() {
        let calls = |name: &str, value: &str| {
            calls(&[(name.into(), value.into())].into_iter().collect::<Environment>())
        };
        assert!(calls("CLAUDECODE", "1") && calls("CODEX_THREAD_ID", "x") && calls("AGENT", "y"));
        assert!(!calls("CLAUDECODE", "") && !calls("CODEX_HOME", "/h") && !calls("EDITOR", "vi"));
    }
}
