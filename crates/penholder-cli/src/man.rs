//! The man pages, for packagers: one for the program and one for each subcommand.

use std::fs;
use std::io::{self, Write};
use std::iter;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use penholder_core::shown_path;

use crate::failure::Failure;

/// Writes the pages of an interface into a directory, which is created if it is missing.
pub(crate) fn run(interface: Command, directory: &Path) -> Result<ExitCode, Failure> {
    write_pages(interface, directory).map_err(|error| {
        let directory = shown_path(directory);
        let next = "give a directory that may be written";
        Failure::of_system(format!("man: {directory}"), &error, next)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(interface: Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // `help` repeats what the pages say.
    let mut interface = interface.disable_help_subcommand(true);
    // Gives the subcommands their whole names.
    interface.build();
    let subcommands = interface.get_subcommands();
    for command in iter::once(&interface).chain(subcommands.filter(|one| !one.is_hide_set())) {
        let source = format!("penholder {}", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command.clone())
            // A page is the same whenever it is written; an empty date would be left out.
            .date(" ")
            .source(source)
            .manual("penholder manual");
        fs::write(directory.join(man.get_filename()), page(command, &man)?)?;
    }
    Ok(())
}

fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_help() {
        write_after_help(&help.to_string(), &mut page)?;
    }
    if !command.has_subcommands() {
        let mut roff = Roff::new();
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("penholder"), roman("(1)")]);
        roff.to_writer(&mut page)?;
    }
    Ok(page)
}

/// Writes the text that follows the options in the help: plain paragraphs as notes, and a
/// paragraph like `Exit codes:` with indented lines as a section, as it stands.
fn write_after_help(help: &str, page: &mut dyn Write) -> io::Result<()> {
    let (sections, notes): (Vec<&str>, Vec<&str>) =
        help.split("\n\n").partition(|part| heading(part).is_some());
    let mut roff = Roff::new();
    for (number, note) in notes.into_iter().enumerate() {
        match number {
            0 => roff.control("SH", ["NOTES"]),
            _ => roff.control("PP", []),
        };
        roff.text([roman(note)]);
    }
    for section in sections {
        roff.control("SH", [heading(section).unwrap_or_default().as_str()]);
        roff.control("nf", []);
        for line in section.lines().skip(1) {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(page)
}

/// Returns the name of the section that a paragraph is, if it is one.
fn heading(paragraph: &str) -> Option<String> {
    let (first, rest) = paragraph.split_once('\n')?;
    let name = first.strip_suffix(':')?;
    let is_list = rest.lines().all(|line| line.starts_with("  "));
    is_list.then(|| match name {
        // As other manuals call it.
        "Exit codes" => "EXIT STATUS".to_owned(),
        name => name.to_uppercase(),
    })
}
