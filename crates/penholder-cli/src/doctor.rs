//! `penholder doctor`: find problems with a database.

use std::process::ExitCode;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use penholder::doctor::{Doctor, Finding, Report, Severity};
use penholder_core::shown_path;

use crate::args;
use crate::failure::{DOCTOR_ERROR, DOCTOR_WARNING, Failure};
use crate::{output, text};

/// The width of the table, on a terminal that is wide enough and on a pipe.
const WIDTH: usize = 80;
/// The width of the table on a terminal that is narrower than this.
const NARROWEST: usize = 40;

pub(crate) fn run(args: &args::Doctor) -> Result<ExitCode, Failure> {
    let options = args.target.options().timeout(args.timeout);
    let doctor = Doctor::new(options).integrity(args.integrity);
    let report = doctor.examine(&args.target.db)?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print_text(&describe(&report))?;
    }
    Ok(match report.worst() {
        Severity::Error => ExitCode::from(DOCTOR_ERROR),
        Severity::Warning => ExitCode::from(DOCTOR_WARNING),
        _ => ExitCode::SUCCESS,
    })
}

/// The findings as a table, the commands that it breaks, and the number of errors and warnings.
fn describe(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width())
        .set_header(["", "check", "finding"]);
    for finding in &report.findings {
        let severity = finding.severity.to_string();
        table.add_row([severity, finding.check.to_string(), details(finding)]);
    }
    for (column, width) in table.column_iter_mut().zip([9, 16]) {
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    let database = shown_path(&report.database);
    let lock_file = shown_path(&report.lock_file);
    let table = table.to_string();
    let commands = broken_commands(report, &table);
    format!(
        "{database}\nlock file: {lock_file}\n{table}\n{commands}{}\n",
        summary(report)
    )
}

fn width() -> u16 {
    let width = output::terminal_width().unwrap_or(WIDTH);
    u16::try_from(width.clamp(NARROWEST, WIDTH)).unwrap_or(u16::MAX)
}

/// The commands that stand on several lines of the table, each in one line, to be pasted.
fn broken_commands(report: &Report, table: &str) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let next = finding
            .next
            .as_deref()
            .filter(|_| finding.severity > Severity::Ok);
        let commands = next.unwrap_or_default().split('`').skip(1).step_by(2);
        for command in commands.filter(|command| !table.contains(command)) {
            let line = format!("  {command}\n");
            if !text.contains(&line) {
                text += &line;
            }
        }
    }
    match text.is_empty() {
        true => text,
        false => format!("commands that do not fit into a line of the table:\n{text}"),
    }
}

/// The finding; if it is a problem, also why it matters and what to do.
fn details(finding: &Finding) -> String {
    let mut lines = vec![finding.finding.clone()];
    if finding.severity > Severity::Ok {
        lines.push(format!("why: {}", finding.why));
        lines.extend(finding.next.as_ref().map(|next| format!("do: {next}")));
    }
    lines.join("\n")
}

fn summary(report: &Report) -> String {
    let count = |severity| {
        let findings = report.findings.iter();
        findings.filter(|one| one.severity == severity).count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match (errors, warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        _ => format!(
            "{}, {}",
            text::count(errors, "error"),
            text::count(warnings, "warning")
        ),
    }
}
