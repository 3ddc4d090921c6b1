//! The language server in Neovim, without a window, by the very configuration that the guide gives.

use std::fs;
use std::path::Path;

use crate::home::{EXE, Home, LIMIT, Started, skip, takes_long, until};

/// Tells the test what is on the screen, and when it has changed.
const DRIVER: &str = r#"
local log = assert(io.open(vim.env.EDITOR_LOG, "a"))
local function note(what)
  local seconds, micros = vim.loop.gettimeofday()
  log:write(string.format("%s %d\n", what, seconds * 1000 + math.floor(micros / 1000)))
  log:flush()
end
vim.api.nvim_create_autocmd("DiagnosticChanged", {
  callback = function() note("diagnostics=" .. #vim.diagnostic.get(0)) end,
})
vim.api.nvim_create_autocmd("TextChangedI", { callback = function() note("typed") end })
function Lenses()
  -- One before the server is attached would be the last: Neovim 0.7 waits for its answer.
  if next(vim.lsp.buf_get_clients(0)) then vim.lsp.codelens.refresh() end
  local titles = {}
  for _, lens in ipairs(vim.lsp.codelens.get(0)) do
    table.insert(titles, lens.command.title)
  end
  return table.concat(titles, "\n")
end
function Messages()
  local texts = {}
  for _, diagnostic in ipairs(vim.diagnostic.get(0)) do
    table.insert(texts, diagnostic.lnum .. ": " .. diagnostic.message)
  end
  return table.concat(texts, "\n")
end
"#;

/// An editor that runs.
struct Neovim<'a> {
    home: &'a Home,
    process: Started,
    socket: String,
}

impl<'a> Neovim<'a> {
    fn start(home: &'a Home, file: &str) -> Self {
        let socket = home.base.join("out/nvim").display().to_string();
        let init = home.base.join("out/init.lua");
        fs::write(&init, format!("{}\n{DRIVER}", guide())).unwrap();
        let init = init.display().to_string();
        let args = ["--headless", "-n", "-i", "NONE", "-u", &init, "--listen", &socket, file];
        let process = home.start("nvim", &args);
        until("the editor listens", || Path::new(&socket).exists().then_some(()));
        Self { home, process, socket }
    }

    fn remote(&self, what: &str, text: &str) -> String {
        let ran = self.home.start("nvim", &["--server", &self.socket, what, text]).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{text}: {ran:#?}");
        // Which of the two it is depends on the version.
        ran.stdout + &ran.stderr
    }

    fn keys(&self, keys: &str) {
        self.remote("--remote-send", keys);
    }

    /// Waits until a function of the driver says this.
    #[track_caller]
    fn wait_for(&self, function: &str, wanted: &str) {
        until(&format!("{function} tells {wanted:?}"), || {
            let told = self.remote("--remote-expr", &format!("v:lua.{function}()"));
            told.contains(wanted).then_some(())
        });
    }

    /// When, in milliseconds, something was noted for the first time after `since`.
    #[track_caller]
    fn time_of(&self, what: &str, since: u64) -> u64 {
        until(&format!("the editor notes {what}"), || {
            let log = fs::read_to_string(self.home.base.join("out/log")).unwrap();
            let notes = log.lines().filter_map(|line| line.rsplit_once(' '));
            let mut times = notes.filter(|(noted, _)| *noted == what);
            times.find_map(|(_, time)| time.parse().ok().filter(|time| *time >= since))
        })
    }
}

/// The configuration in the guide.
fn guide() -> &'static str {
    let page = include_str!("../../../src/guide/editors.md");
    let section = page.split("\n## Neovim\n").nth(1).unwrap();
    section.split("```lua\n").nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_guides_configuration_shows_marks_in_neovim() {
    if takes_long() {
        return;
    }
    let has_neovim = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join("nvim").is_file())
    });
    if !has_neovim {
        return skip("the language server in Neovim", "nvim is not installed");
    }
    let mut home = Home::new();
    let ended = home.base.join("out/ended");
    let now = "std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()";
    let green = format!(
        "#[test]\nfn one() {{\n    std::fs::write({ended:?}, {now}.as_millis().to_string()).unwrap();\n    \
         assert_eq!(1, 1);\n}}\n"
    );
    home.write(
        "Cargo.toml",
        "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n",
    );
    home.write(".gitignore", "/target\n");
    home.write("src/lib.rs", &green);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    let programs = home.base.join("out/bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(EXE, programs.join("knhk-test-cache")).unwrap();
    let daemon = home.daemon();
    home.test(&[]).green();
    let path = home.environment.get("PATH").unwrap_or_default().to_owned();
    let mut folders = vec![programs];
    folders.extend(std::env::split_paths(&path));
    home.environment.set("PATH", std::env::join_paths(folders).unwrap());
    home.environment.set("EDITOR_LOG", home.base.join("out/log"));

    let editor = Neovim::start(&home, "src/lib.rs");
    editor.wait_for("Lenses", "✓ passed");
    editor.keys(":%s/1, 1/1, 2/<CR>:w<CR>");
    editor.wait_for("Messages", "3: assertion `left == right` failed");
    editor.wait_for("Lenses", "✗ failed");
    let end: u64 = fs::read_to_string(&ended).unwrap().parse().unwrap();
    let marked = editor.time_of("diagnostics=1", end);

    editor.keys("Gox");
    let typed = editor.time_of("typed", marked);
    let gone = editor.time_of("diagnostics=0", typed);
    editor.wait_for("Lenses", "? unknown for this text");
    println!(
        "from a test's end to its mark in the editor: {} ms; from a keystroke to the end of the \
         marks in doubt: {} ms",
        marked - end,
        gone - typed
    );
    editor.keys("<Esc>u");
    editor.wait_for("Messages", "3: assertion `left == right` failed");
    editor.wait_for("Lenses", "✗ failed");
    // It may be gone before it has answered this.
    home.start("nvim", &["--server", &editor.socket, "--remote-send", ":qa!<CR>"]).end(LIMIT);
    assert_eq!(editor.process.end(LIMIT).code, Some(0));
    daemon.stop();
}
