"""Tables of series: what is recognised, how time is split, and what is said of files that cannot be used."""

import gzip
import hashlib

import numpy as np
import pytest

from zoo.data import make_demo_series
from zoo.data.series import DEMO, load_series
from zoo.errors import DataError, SettingError

SIZES = {"look_back": 6, "horizon": 2}


def write(path, rows, header="date,load"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def hours(count, value=lambda hour: hour % 7 + 0.5):
    return [f"2024-01-{1 + hour // 24:02}T{hour % 24:02}:00,{value(hour)}" for hour in range(count)]


def test_the_demo_series_is_the_monthly_table_it_names():
    series = load_series("demo", look_back=96, horizon=24)
    (panel,) = series.panels
    assert (series.channels, series.season, len(panel.values)) == (("celsius",), 12, 61 * 12)
    assert str(panel.times[0]) == "1950-01-01T00:00:00" and str(panel.times[-1]) == "2010-12-01T00:00:00"
    warmest = panel.values[:, 0].reshape(61, 12).mean(axis=0).argmax()
    assert warmest == 2  # off Peru, March


def test_the_demo_script_refuses_another_table(tmp_path):
    source = tmp_path / "elnino.csv"
    source.write_text("YEAR,JAN\n1950,23\n")
    with pytest.raises(DataError, match="expected sha256"):
        make_demo_series.make(source, tmp_path / "out.csv")


def test_the_demo_script_turns_years_into_months(tmp_path, monkeypatch):
    source = tmp_path / "elnino.csv"
    source.write_text('"YEAR","JAN","FEB"\n1950,23.110,24.200\n1951,24.190,25.280\n')
    monkeypatch.setattr(make_demo_series, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    make_demo_series.make(source, tmp_path / "out.csv")
    made = (tmp_path / "out.csv").read_text().splitlines()
    assert made == ["month,celsius", "1950-01,23.11", "1950-02,24.2", "1951-01,24.19", "1951-02,25.28"]
    assert DEMO.read_text().splitlines()[:3] == made[:3]


def test_a_table_is_split_by_time_and_no_future_reaches_into_the_next_split(tmp_path):
    series = load_series(write(tmp_path / "a.csv", hours(100)), **SIZES)
    (panel,) = series.panels
    assert (panel.validation, panel.test) == (70, 80) and series.season == 24
    for split, first, end in (("train", 6, 70), ("validation", 70, 80), ("test", 80, 100)):
        futures = series.windows(split, 6, 2)[:, 1] + 6
        np.testing.assert_array_equal(futures, np.arange(first, end - 2 + 1))


def test_windows_are_cut_where_they_say(tmp_path):
    series = load_series(write(tmp_path / "a.csv", hours(100, lambda hour: hour)), **SIZES)
    past, future = series.cut(np.array([[0, 10], [0, 3]]), 6, 2)
    np.testing.assert_array_equal(past[:, :, 0], [range(10, 16), range(3, 9)])
    np.testing.assert_array_equal(future[:, :, 0], [[16, 17], [9, 10]])


@pytest.mark.parametrize("name", ["ETTh1", "ETTm2"])
def test_an_ett_file_is_split_at_12_16_and_20_months_by_its_name(tmp_path, name):
    month = 30 * (24 if name == "ETTh1" else 96)
    steps = np.datetime64("2016-07-01T00:00") + np.arange(21 * month) * np.timedelta64(1440 * 30 // month, "m")
    rows = [f"{str(time).replace('T', ' ')}:00,{place % 91},{place % 7}" for place, time in enumerate(steps)]
    series = load_series(write(tmp_path / f"{name}.csv", rows, "date,HUFL,OT"), look_back=96, horizon=24)
    (panel,) = series.panels
    assert (panel.validation, panel.test, len(panel.values)) == (12 * month, 16 * month, 20 * month)
    assert len(series.windows("test", 96, 24)) == 4 * month - 24 + 1  # every one, none dropped


def test_m4_files_have_a_series_in_each_row_of_any_length(tmp_path):
    train = [
        '"V1","V2","V3","V4","V5","V6","V7","V8","V9"',
        '"W1","1","2","3","4","5","6","7",""',
        "W2,8,7,6,5,4,3,2,1",
    ]
    (tmp_path / "Weekly-train.csv").write_text("\n".join(train))
    with gzip.open(tmp_path / "Weekly-test.csv.gz", "wt") as file:
        file.write('"V1","V2","V3"\n"W1","8","9"\n"W2","0","-1"\n')
    series = load_series(tmp_path / "Weekly-train.csv", look_back=3, horizon=2)
    assert [panel.name for panel in series.panels] == ["W1", "W2"]
    np.testing.assert_array_equal(series.panels[0].values[:, 0], range(1, 10))
    past, future = series.cut(series.windows("test", 3, 2), 3, 2)
    np.testing.assert_array_equal(past[:, :, 0], [[5, 6, 7], [3, 2, 1]])
    np.testing.assert_array_equal(future[:, :, 0], [[8, 9], [0, -1]])
    np.testing.assert_array_equal(series.windows("validation", 3, 2), [[0, 2], [1, 3]])


def test_a_long_table_is_one_panel_for_each_series(tmp_path):
    rows = [f"{name},{row.replace(',', ',' + sign)}" for name, sign in (("b", "-"), ("a", "")) for row in hours(50)]
    series = load_series(write(tmp_path / "long.csv", rows, "unique_id,ds,y"), **SIZES)
    assert [panel.name for panel in series.panels] == ["b", "a"] and series.channels == ("y",)
    np.testing.assert_array_equal(series.panels[0].values, -series.panels[1].values)


def test_columns_are_taken_by_the_names_given(tmp_path):
    rows = [f"{place},{2 * place},x{place},{1990 + place}" for place in range(40)]
    path = write(tmp_path / "a.csv", rows, "up,twice,text,when")
    series = load_series(path, time_column="when", value_columns="twice, up", **SIZES)
    assert series.channels == ("twice", "up") and series.season == 1
    np.testing.assert_array_equal(series.panels[0].times, np.arange(1990.0, 2030))
    by_itself = load_series(path, time_column="when", **SIZES)
    assert by_itself.channels == ("up", "twice")
    assert by_itself.skipped == (("column 'text'", "holds no numbers"),)


@pytest.mark.parametrize(
    ("stamps", "season"),
    [
        ([f"{1950 + place // 12}-{1 + place % 12:02}" for place in range(40)], 12),
        ([f"{1950 + place // 4}-{1 + place % 4 * 3:02}-01" for place in range(40)], 4),
        ([str(np.datetime64("1950-02", "M") + place - np.timedelta64(1, "D")) for place in range(40)], 12),
        ([str(np.datetime64("1950-01-01") + place) for place in range(40)], 7),
        ([str(np.datetime64("1950-01-01") + 7 * place).replace("-", "") for place in range(40)], 52),
        ([f"{1950 + place}" for place in range(40)], 1),
    ],
    ids=["months", "quarters", "month ends", "days", "weeks", "years"],
)
def test_the_season_follows_from_the_times(tmp_path, stamps, season):
    series = load_series(write(tmp_path / "a.csv", [f"{s},{i % 9}" for i, s in enumerate(stamps)]), **SIZES)
    assert series.season == season and len(series.panels[0].values) == 40


def test_year_month_day_and_hour_may_have_columns_of_their_own(tmp_path):
    rows = [f"2010,1,{1 + hour // 24},{hour % 24},{hour % 5}" for hour in range(60)]
    series = load_series(write(tmp_path / "a.csv", rows, "year,month,day,hour,pm2.5"), **SIZES)
    assert series.channels == ("pm2.5",) and str(series.panels[0].times[25]) == "2010-01-02T01:00:00"


def test_missing_values_and_missing_rows_are_nan_on_the_grid(tmp_path):
    rows = hours(60)
    rows[3], rows[5] = rows[3].split(",")[0] + ",NA", rows[5].split(",")[0] + ","
    del rows[10:12]
    (panel,) = load_series(write(tmp_path / "a.csv", rows), **SIZES).panels
    assert list(np.flatnonzero(np.isnan(panel.values[:, 0]))) == [3, 5, 10, 11]
    assert str(panel.times[11]) == "2024-01-01T11:00:00" and len(panel.values) == 60


def test_windows_without_anything_known_are_left_out(tmp_path):
    rows = hours(60, lambda hour: "" if 10 <= hour < 16 else hour % 5)
    starts = load_series(write(tmp_path / "a.csv", rows), **SIZES).windows("train", 6, 2)[:, 1]
    assert set(range(35)) - set(starts) == {10, *range(4, 9)}  # the past, or all of the future, in the gap


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_tabs_and_gzip_are_read(tmp_path, separator):
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding="utf-8-sig") as file:
        file.write("\n".join(["date,load", *hours(60)]).replace(",", separator))
    assert load_series(tmp_path / "a.csv.gz", **SIZES).channels == ("load",)


def test_a_season_that_is_given_counts(tmp_path):
    path = write(tmp_path / "a.csv", hours(60, lambda hour: hour % 5 + (hour == 3)))
    series = load_series(path, season=5, **SIZES)
    # of the 43 differences over 5 steps among the first 48, one is 1 in size: at hour 8; hour 3 has none before it
    np.testing.assert_allclose(series.naive_errors(), [[1 / 43]], rtol=1e-12)  # float64


def test_the_spread_is_the_standard_deviation_in_training_alone(tmp_path):
    series = load_series(write(tmp_path / "a.csv", hours(60, lambda hour: hour % 2 if hour < 42 else 1000)), **SIZES)
    np.testing.assert_allclose(series.spread(), [0.5], rtol=1e-12)  # float64


def spoilt(row, text):
    rows = hours(60)
    rows[row] = text
    return rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (spoilt(9, "2024-01-01T09:00,1.5x"), r"row 11: column 'load' has '1.5x', expected a number"),
        (spoilt(9, "2024-01-01T09:00,inf"), r"row 11: column 'load' has 'inf', expected a number"),
        (spoilt(9, "yesterday,1.5"), r"row 11: column 'date': 'yesterday' is no time"),
        (spoilt(9, "2024-01-01T08:00,1.5"), r"row 11: column 'date': '2024-01-01T08:00' is the time of an earlier row"),
        (spoilt(9, "2023-01-01T08:00,1.5"), r"row 11: column 'date': '2023-01-01T08:00' is before 2024-01-01T08:00:00"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_left_out(tmp_path, rows, says):
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(DataError, match=says) as caught:
        load_series(path, **SIZES)
    assert str(path) in str(caught.value)
    series = load_series(path, skip_bad=True, **SIZES)
    assert np.isnan(series.panels[0].values[9, 0]) and np.isnan(series.panels[0].values).sum() == 1
    ((place, _),) = series.skipped
    assert place == "row 11"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no CSV file"),
        ("date,load\n", "no row below its header"),
        ("date,load,load\n2024-01-01,1,2\n", "row 1: names the column 'load' twice"),
        ("date,,load\n2024-01-01,1,2\n", "row 1: has no name for column 2"),
        ("date,load\n2024-01-01,1\n2024-01-02,1,2,3\n", "is no CSV file .*line 3"),
        ("when,load\n2024-01-01,1\n", r"no column is named as a time .*received when, load.* time_column"),
        ("date,load\n2024-01-01,low\n2024-01-02,high\n", "no column holds numbers"),
        ("date,load\n31.12.2024,1\n01.01.2025,2\n", "'31.12.2024' is no time, expected 2024-12-31"),
        ("date,load\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n2024-01-03T12:00,3\n", "no whole number of steps"),
        ("date,load\n2024-01-01,1\n2024-01-02,2\n2824-01-03,4\n", "look for a mistyped time"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        load_series(tmp_path / "a.csv", **SIZES)


def test_files_that_are_no_text_are_explained(tmp_path):
    (tmp_path / "a.csv").write_bytes("date,größe\n2024-01-01,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is no CSV file in UTF-8"):
        load_series(tmp_path / "a.csv", **SIZES)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"date,load\n" * 500)[:-20])
    with pytest.raises(DataError, match=r"cannot be read .*copy it again"):
        load_series(tmp_path / "a.csv.gz", **SIZES)
    with pytest.raises(DataError, match="there is no such file"):
        load_series(tmp_path / "b.csv", **SIZES)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"look_back": 41}, "has 60 steps, of them 42 in the train split, expected at least 43 there for look_back=41"),
        ({"horizon": 7}, "of them 6 in the validation split, expected at least 7"),
        ({"time_column": "when"}, "there is no column 'when', expected one of date, load"),
        ({"value_columns": "load, cost"}, "there is no column 'cost'"),
        ({"series_column": "shop"}, "there is no column 'shop'"),
        ({"value_columns": "date"}, "column 'date' holds no numbers"),
    ],
)
def test_what_does_not_fit_the_table_is_explained(tmp_path, settings, says):
    with pytest.raises(DataError, match=says):
        load_series(write(tmp_path / "a.csv", hours(60)), **SIZES | settings)


def test_a_constant_column_is_named_or_left_out(tmp_path):
    rows = [row + (",3" if place < 50 else ",4") for place, row in enumerate(hours(60))]
    path = write(tmp_path / "a.csv", rows, "date,load,valve")
    with pytest.raises(DataError, match="column 'valve': is 3 in all of the train split"):
        load_series(path, **SIZES)
    assert load_series(path, skip_bad=True, **SIZES).channels == ("load",)


def test_a_short_series_among_many_is_named_or_left_out(tmp_path):
    rows = [f"{name},{row}" for name, count in (("a", 50), ("b", 9)) for row in hours(count)]
    path = write(tmp_path / "a.csv", rows, "series,date,load")
    with pytest.raises(DataError, match="series 'b': has 9 steps"):
        load_series(path, **SIZES)
    series = load_series(path, skip_bad=True, **SIZES)
    assert [panel.name for panel in series.panels] == ["a"] and series.skipped[0][0] == "series 'b'"


def test_m4_files_that_do_not_belong_together_are_explained(tmp_path):
    (tmp_path / "Daily-train.csv").write_text("V1,V2,V3\nD1,1,2\n")
    with pytest.raises(DataError, match=r"Daily-test\.csv: there is no such file"):
        load_series(tmp_path / "Daily-train.csv", **SIZES)
    (tmp_path / "Daily-test.csv").write_text("V1,V2\nD2,1\n")
    with pytest.raises(DataError, match=r"Daily-test\.csv: has no series 'D1'"):
        load_series(tmp_path / "Daily-train.csv", **SIZES)
    (tmp_path / "Daily-test.csv").write_text("V1,V2\nD1,one\n")
    with pytest.raises(DataError, match=r"Daily-test\.csv, row 2: column 'V2' has 'one', no number"):
        load_series(tmp_path / "Daily-train.csv", **SIZES)


def test_an_unknown_split_is_refused():
    with pytest.raises(SettingError, match="split is 'dev', expected one of train, validation, test"):
        load_series("demo", look_back=12, horizon=6).windows("dev", 12, 6)


@pytest.mark.real
def test_etth1_is_the_published_split(real_data):
    series = load_series(real_data / "forecasting" / "ETTh1.csv", look_back=96, horizon=720)
    assert len(series.channels) == 7 and series.season == 24 and not np.isnan(series.panels[0].values).any()
    assert [len(series.windows(split, 96, 720)) for split in ("train", "validation", "test")] == [7825, 2161, 2161]


@pytest.mark.real
def test_m4_weekly_is_359_series(real_data):
    series = load_series(real_data / "forecasting" / "Weekly-train.csv.gz", look_back=52, horizon=13)
    assert len(series.panels) == 359 and len(series.windows("test", 52, 13)) == 359
