//! `penholder doctor`: find problems with a database.

use std::process::ExitCode;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use penholder::doctor::{Doctor, Finding, Report, Severity};
use penholder_core::shown_path;

use crate::args;
use crate::failure::{DOCTOR_ERROR, DOCTOR_WARNING, Failure};
use crate::{output, text};

/// The width of the table, on a terminal and on a pipe.
const WIDTH: u16 = 80;

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

/// The findings as a table, and the number of errors and warnings.
fn describe(report: &Report) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
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
    format!(
        "{database}\nlock file: {lock_file}\n{table}\n{}\n",
        summary(report)
    )
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
