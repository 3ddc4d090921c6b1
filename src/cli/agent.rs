//! Whether a coding agent has called this program, told by the variables that agents set.

use crate::process::Environment;

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

    #[test]
    fn an_agent_is_known_by_a_variable_that_is_not_empty() {
        let calls = |name: &str, value: &str| {
            calls(&[(name.into(), value.into())].into_iter().collect::<Environment>())
        };
        assert!(calls("CLAUDECODE", "1") && calls("CODEX_THREAD_ID", "x") && calls("AGENT", "y"));
        assert!(!calls("CLAUDECODE", "") && !calls("CODEX_HOME", "/h") && !calls("EDITOR", "vi"));
    }
}
