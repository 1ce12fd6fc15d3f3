import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.tables import BOX, PARTED, SCHEMAS, decode, encode, without_vectors

# Anything that UTF-8 can hold: quotes, newlines, NUL, emoji, right-to-left marks.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
REAL = st.floats(width=32, allow_nan=False)


def values_of(kind):
    if pa.types.is_list(kind):
        return st.lists(values_of(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        inner = {field.name: values_of(field.type) for field in kind}
        return st.fixed_dictionaries(inner | ({"label": st.none() | TEXT} if kind == BOX else {}))
    if pa.types.is_string(kind):
        return TEXT
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_timestamp(kind):
        return st.integers(0, 2**50).map(lambda microseconds: pa.scalar(microseconds, kind).as_py())
    if pa.types.is_floating(kind):
        return st.floats(width=16, allow_nan=False) if kind == pa.float16() else REAL
    return st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)


def rows_of(schema):
    return st.lists(
        st.fixed_dictionaries({field.name: st.none() | values_of(field.type) for field in schema}), max_size=3
    )


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_table_reads_back_as_written(name, data):
    rows = data.draw(rows_of(SCHEMAS[name]))
    table = pa.Table.from_pylist(rows, schema=SCHEMAS[name])
    read = decode(encode(table, SCHEMAS[name]))
    assert read.to_pylist() == rows
    assert read.schema.equals(SCHEMAS[name])
    for field, stored in zip(SCHEMAS[name], read.schema, strict=True):
        assert field.metadata.items() <= stored.metadata.items()


def test_lists_of_numbers_are_kept_from_people_and_sql():
    assert without_vectors(SCHEMAS["samples"]) == SCHEMAS["samples"].names
    assert {*SCHEMAS["explain"].names} - {*without_vectors(SCHEMAS["explain"])} == {
        "outside_features",
        "image_features",
        "class_probabilities",
    }
    assert {*SCHEMAS["cues"].names} - {*without_vectors(SCHEMAS["cues"])} == {"centroid"}


def own_metadata(content):
    return {
        key.decode(): value.decode() for key, value in (pq.read_schema(pa.BufferReader(content)).metadata or {}).items()
    }


@settings(max_examples=20, deadline=None)
@given(metadata=st.dictionaries(TEXT.filter(lambda key: key and not key.startswith("ARROW")), TEXT, max_size=4))
def test_what_a_part_vouches_for_reads_back(metadata):
    content = encode(SCHEMAS["explain"].empty_table(), SCHEMAS["explain"], metadata)
    assert own_metadata(content) == metadata


def test_the_same_content_gives_the_same_bytes_whatever_the_order_of_columns():
    row = dict.fromkeys(SCHEMAS["findings"].names) | {"sample_id": "a.jpg", "row": 3, "severity": 0.25}
    table = pa.Table.from_pylist([row], schema=SCHEMAS["findings"])
    turned = table.select(table.column_names[::-1])
    assert encode(table, SCHEMAS["findings"]) == encode(turned, SCHEMAS["findings"])


def test_a_missing_column_and_a_value_that_does_not_fit_are_errors():
    table = pa.table({"sample_id": ["a"], "target": ["label"]})
    with pytest.raises(KeyError, match="rule"):
        encode(table, SCHEMAS["reviews"])
    whole = SCHEMAS["samples"].empty_table().to_pydict() | {"row": ["no number"]}
    columns = {name: values or [None] for name, values in whole.items()}
    with pytest.raises(pa.ArrowInvalid, match="no number"):
        encode(pa.table(columns), SCHEMAS["samples"])


def test_every_field_says_what_it_is_and_every_number_its_unit_or_range_or_meaning():
    for name, schema in SCHEMAS.items():
        for field in schema:
            described = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            assert len(described.get("description", "")) > 3, (name, field.name)
            assert set(described) <= {"description", "unit", "range"}, (name, field.name)


@pytest.mark.parametrize("name", PARTED)
def test_tables_in_parts_are_keyed_by_sample_row_target_and_method(name):
    assert SCHEMAS[name].names[:4] == ["sample_id", "row", "target", "method"]


def test_metadata_is_plain_text_that_another_tool_can_read():
    content = encode(SCHEMAS["explain"].empty_table(), SCHEMAS["explain"], {"maps_checksum": "ab12"})
    assert json.loads(json.dumps(own_metadata(content))) == {"maps_checksum": "ab12"}
