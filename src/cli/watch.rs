//! `watch`: the state of the tests as it changes.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

use super::args::{OutputFormat, WatchArgs};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::interrupt::ended_by_signal;
use super::output;
use crate::client::Connection;
use crate::config::{self, Notifications};
use crate::model::Timestamp;
use crate::protocol::StreamEvent;
use crate::views::{
    Feed, LineReport, NoticeForm, Notices, PlaceFinder, ScreenEnd, ScreenSetup, Standing, Wanted,
    watch_on_screen,
};

/// Watches until the user or the reader has seen enough, or once.
pub(super) fn watch(context: &Context, args: &WatchArgs) -> Result<(), Stop> {
    let wanted = wanted(context, args)?;
    let is_text = args.format == OutputFormat::Text;
    let is_on_terminal = is_text && !args.once && std::io::stdout().is_terminal();
    let is_dumb = context.environment.get("TERM").is_none_or(|term| term == "dumb");
    if is_on_terminal && !args.lines && !is_dumb && std::io::stdin().is_terminal() {
        return on_screen(context, wanted);
    }
    let notifier = (is_text && !args.once).then(|| notifier(context, is_on_terminal));
    let feed = Feed::new(context.paths.clone(), context.environment.clone(), wanted);
    let handle = feed.handle();
    let mut view = LineView {
        once: args.once,
        format: args.format,
        report: LineReport::default(),
        places: PlaceFinder::default(),
    };
    let (tell, ended) = oneshot::channel();
    std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let mut notifier = notifier.map(|make| make());
        let mut result = Ok(());
        let followed = feed.follow(|event| match view.show(event, notifier.as_mut()) {
            Ok(goes_on) => goes_on,
            Err(stop) => {
                result = Err(stop);
                false
            }
        });
        let followed = followed.map_err(|error| Stop::new(Exit::Failure, error));
        // The command may have been ended meanwhile.
        let _ = tell.send(result.and(followed));
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            ended = ended => ended.unwrap_or_else(|_| Err(Stop::new(Exit::Failure, "watching ended"))),
            exit = ended_by_signal()? => Err(Stop::silent(exit)),
            () = reader_gone()? => Err(Stop::silent(Exit::OutputClosed)),
        }
    });
    // It is still waiting for the reader of standard output.
    runtime.shutdown_background();
    handle.end();
    result
}

/// The live view.
fn on_screen(context: &Context, wanted: Wanted) -> Result<(), Stop> {
    let ended = watch_on_screen(ScreenSetup {
        paths: context.paths.clone(),
        environment: context.environment.clone(),
        wanted,
        has_color: context.colored(&std::io::stdout()),
        notifier: notifier(context, true)(),
    });
    match ended {
        Ok(ScreenEnd::Quit) => Ok(()),
        Ok(ScreenEnd::Interrupted) => Err(Stop::silent(Exit::Interrupted)),
        Ok(ScreenEnd::Terminated) => Err(Stop::silent(Exit::Terminated)),
        Err(error) => Err(Stop::new(Exit::Failure, error)),
    }
}

/// Makes what tells the terminal and the desktop of news, by the config as it is when there is some.
fn notifier(context: &Context, is_on_terminal: bool) -> impl FnOnce() -> Notices + Send + 'static {
    let (paths, environment) = (context.paths.clone(), context.environment.clone());
    move || {
        let form = is_on_terminal.then(|| NoticeForm::of(&environment));
        Notices::new(form, paths.desktop_lock(), move |root| {
            let loaded = config::load(&paths, &environment);
            loaded.map_or(Notifications::Off, |loaded| loaded.config.settings_for(root).notify)
        })
    }
}

/// The projects to watch. Where a daemon has them all, they are all of interest; a workspace that it
/// does not have is watched here.
fn wanted(context: &Context, args: &WatchArgs) -> Result<Wanted, Stop> {
    if let Some(path) = &args.project {
        return Ok(Wanted::Project(context.project(Some(path))?));
    }
    let Ok(root) = context.workspace(None) else { return Ok(Wanted::All) };
    let is_listed = context.config()?.config.projects.iter().any(|project| project.path == root);
    let has_daemon = matches!(Connection::open(&context.paths.socket()), Ok(Some(_)));
    Ok(if is_listed && has_daemon { Wanted::All } else { Wanted::Project(root) })
}

/// Ends when nobody reads standard output any more, where the system tells.
fn reader_gone() -> std::io::Result<impl Future<Output = ()>> {
    let (tell, gone) = oneshot::channel::<()>();
    std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let stdout = std::io::stdout();
        loop {
            let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return std::mem::forget(tell),
                Ok(_) => break,
            }
        }
        let _ = tell.send(());
    })?;
    Ok(async {
        let _ = gone.await;
    })
}

/// Prints events, one a line, or the state as text.
struct LineView {
    once: bool,
    format: OutputFormat,
    report: LineReport,
    places: PlaceFinder,
}

impl LineView {
    /// Shows an event; whether more are wanted.
    fn show(
        &mut self,
        mut event: StreamEvent,
        notifier: Option<&mut Notices>,
    ) -> Result<bool, Stop> {
        let ends = self.once && event == StreamEvent::Synced;
        if self.format == OutputFormat::Json {
            self.places.add_places(&mut event);
            output::line(serde_json::to_string(&event).map_err(std::io::Error::from)?)?;
            if !self.once {
                return Ok(true);
            }
        }
        let now = Timestamp::now();
        let mut lines = self.report.note(event, now);
        if self.once {
            lines = if ends { self.report.lines(now) } else { Vec::new() };
        }
        if self.format == OutputFormat::Text && !lines.is_empty() {
            output::text(lines.join("\n") + "\n")?;
        }
        if let Some(notifier) = notifier {
            let sequences = notifier.news(self.report.state()).concat();
            output::bytes(sequences.as_bytes())?;
            notifier.problem().into_iter().for_each(output::note);
        }
        match self.report.standing() {
            _ if !ends => Ok(true),
            Standing::Green => Ok(false),
            Standing::Red => Err(Stop::silent(Exit::NotGreen)),
            Standing::Unknown => Err(Stop::silent(Exit::Unknown)),
        }
    }
}
