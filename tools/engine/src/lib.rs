//! Recipe, plan, streaming engine, report.
