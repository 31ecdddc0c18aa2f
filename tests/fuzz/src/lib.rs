//! Fuzz targets as plain functions over bytes, and their libFuzzer programs.
