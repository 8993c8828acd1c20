//! A mapping folder as it stands in a git revision, through the `git` program: objects are read, the working tree and
//! the index are not touched.

use crate::folder::{self, FILE_READ_MAX_BYTES, FILES_MAX, FOLDER_MAX_BYTES};
use anyhow::{Context as _, Result, bail, ensure};
use claimbound_core::mapping::Folder;
use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

/// The folder of a revision that names none.
const USUAL: &str = "mappings";

/// Reads `REV` or `REV:PATH`. `beside`: the other side, if it is a folder; its repository and its path are meant.
///
/// # Errors
/// There is no git, no repository, no such revision, no such folder in it, or something that is no regular file.
pub(super) fn read(name: &str, beside: Option<&Path>) -> Result<Folder> {
    let (revision, path) = match name.split_once(':') {
        Some((revision, path)) => (revision, Some(path)),
        None => (name, None),
    };
    ensure!(!revision.is_empty() && !revision.starts_with('-'), "`{name}` is neither a folder nor a git revision");
    // A path below the present folder says nothing of where the other side lies.
    let here = Path::new(".");
    let beside = beside.filter(|_| !path.is_some_and(|path| path.starts_with("./")));
    let (at, prefix, usual) = match (beside.map(prefix).transpose()?, beside) {
        (Some(Ok(prefix)), Some(beside)) => (beside, prefix, false),
        _ => match prefix(here)? {
            Ok(prefix) => (here, prefix, true),
            Err(error) => {
                bail!("`{name}` is no folder, and there is no git repository that has such a revision: {error}")
            }
        },
    };
    let below = |path: &str| if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
    let path = match path {
        Some(path) => path.strip_prefix("./").map_or_else(|| path.to_owned(), below),
        None if !usual => prefix.clone(),
        None => below(USUAL),
    };
    let path = path.trim_end_matches('/');
    let Ok(tree) = output(at, &["rev-parse", "--verify", "--quiet", &format!("{revision}^{{tree}}")])? else {
        bail!(
            "`{revision}` is neither a folder nor a revision of this git repository; a shallow clone has to fetch it first"
        );
    };
    let found = output(at, &["rev-parse", "--verify", "--quiet", &format!("{}:{path}", tree.trim_end())])?;
    let Ok(found) = found else {
        bail!("the revision `{revision}` has no folder `{path}`; name it with `{revision}:PATH`");
    };
    let found = found.trim_end();
    let listed = output(at, &["ls-tree", "-r", "-z", "-l", "--full-tree", found])?;
    let listed = listed.map_err(|error| anyhow::anyhow!("`{path}` of `{revision}` is no folder: {error}"))?;
    let files = files(&listed, name)?;
    contents(at, &files).with_context(|| format!("cannot read `{name}`"))
}

/// Where a folder lies in its repository; why it lies in none.
fn prefix(at: &Path) -> Result<Result<String, String>> {
    let prefix = output(at, &["rev-parse", "--show-prefix"])?;
    Ok(prefix.map(|prefix| prefix.trim_end_matches('\n').trim_end_matches('/').to_owned()))
}

/// Object and path of each file that has a meaning.
fn files<'l>(listed: &'l str, name: &str) -> Result<Vec<(&'l str, &'l str)>> {
    let mut files = Vec::new();
    let mut bytes = 0_u64;
    for line in listed.split_terminator('\0') {
        let (fields, path) = line.split_once('\t').context("`git ls-tree` says what this program does not know")?;
        if path.split('/').any(folder::means_nothing) {
            continue;
        }
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let &[mode, "blob", object, size] = fields.as_slice() else {
            bail!("`{name}` holds `{path}`, which is no file: only regular files are read");
        };
        ensure!(
            mode.starts_with("100"),
            "`{name}` holds the link `{path}`: check the revision out and name its folder"
        );
        let size: u64 = size.parse().with_context(|| format!("`git` knows no size of `{path}`"))?;
        ensure!(size < FILE_READ_MAX_BYTES, "`{path}` of `{name}` is larger than {} bytes", FILE_READ_MAX_BYTES - 1);
        bytes += size;
        files.push((object, path));
        ensure!(
            files.len() <= FILES_MAX && bytes <= FOLDER_MAX_BYTES as u64,
            "`{name}` has more than {FILES_MAX} files or {FOLDER_MAX_BYTES} bytes: name the mapping folder itself, as `REV:PATH`"
        );
    }
    Ok(files)
}

/// The files' contents, in one run of git.
fn contents(at: &Path, files: &[(&str, &str)]) -> Result<Folder> {
    let mut child = git(at, &["cat-file", "--batch"]).stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let (input, answers) = (child.stdin.take(), child.stdout.take());
    let (mut input, answers) = (input.context("no input")?, answers.context("no output")?);
    let mut folder = Folder::default();
    let read = std::thread::scope(|scope| {
        // Beside the reading: either pipe may be full.
        let asking = scope.spawn(move || files.iter().try_for_each(|(object, _)| writeln!(input, "{object}")));
        let mut answers = BufReader::new(answers);
        let read: Result<()> = files.iter().try_for_each(|(_, path)| {
            folder.files.insert((*path).to_owned(), answer(&mut answers)?);
            Ok(())
        });
        // Nobody reads on: an asker that is not done ends with an error.
        drop(answers);
        let asked = asking.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()));
        read.and(asked.map_err(Into::into))
    });
    let status = child.wait()?;
    read?;
    ensure!(status.success(), "`git cat-file` ends with {status}");
    Ok(folder)
}

/// `OBJECT blob SIZE`, the content, an end of line.
fn answer(answers: &mut impl std::io::BufRead) -> Result<Vec<u8>> {
    let mut head = String::new();
    answers.by_ref().take(FILE_READ_MAX_BYTES).read_line(&mut head)?;
    let size: Option<u64> = head.trim_end().split_once(" blob ").and_then(|(_, size)| size.parse().ok());
    let size =
        size.filter(|size| *size < FILE_READ_MAX_BYTES).with_context(|| format!("`git` says `{}`", head.trim_end()))?;
    let mut content = Vec::new();
    answers.by_ref().take(size + 1).read_to_end(&mut content)?;
    ensure!(content.len() as u64 == size + 1 && content.pop() == Some(b'\n'), "`git` ends within a file");
    Ok(content)
}

fn git(at: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // What stands in for an object is not what was reviewed.
    command.arg("--no-replace-objects").arg("-C").arg(at).args(arguments);
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What git prints, or in one line why it refuses.
fn output(at: &Path, arguments: &[&str]) -> Result<Result<String, String>> {
    let output = git(at, arguments).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow::anyhow!("`git` is not installed: a revision is read through it; or name two folders")
        }
        _ => anyhow::Error::new(error).context("cannot run `git`"),
    })?;
    if output.status.success() {
        let text = String::from_utf8(output.stdout).context("a name in the revision is not UTF-8")?;
        return Ok(Ok(text));
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Ok(Err(error.lines().next().unwrap_or("no reason given").to_owned()))
}
