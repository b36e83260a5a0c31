"""CSVs as spreadsheets save them: read rightly, or refused with the encoding that they seem to have."""

import codecs

import pytest

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError

TEXT = 'image,label\na.png,weiß\nb.png,glatt\n'
WANTED = (['image', 'label'], [(2, {'image': 'a.png', 'label': 'weiß'}), (3, {'image': 'b.png', 'label': 'glatt'})])


@pytest.mark.parametrize('data', [
    TEXT.encode(), TEXT.encode('utf-8-sig'), TEXT.encode('utf-16'), codecs.BOM_UTF16_BE + TEXT.encode('utf-16-be'),
    TEXT.encode('utf-32'), TEXT.replace('\n', '\r\n').encode(), TEXT.replace('\n', '\r').encode(),
    TEXT.replace(',', ';').encode(), TEXT.replace(',', '\t').encode('utf-16'),
], ids=range(9))
def test_read_rightly(tmp_path, data):
    """UTF-16 (Excel's 'Unicode text'), old-Mac line ends: all ended with 'invalid start byte' or as one line."""
    path = tmp_path / 'labels.csv'
    path.write_bytes(data)
    assert read_rows(path) == WANTED


@pytest.mark.parametrize('first', ['sep=;\r\n', '"sep=;"\n', 'SEP=;\n'])
def test_a_first_line_that_names_the_separator(tmp_path, first):
    """Excel's `sep=;` was taken for the columns; a comma in a field outweighed the semicolons."""
    path = tmp_path / 'labels.csv'
    path.write_bytes((first + 'image;label,of;x,y,z\na.png;"1;2";3\n').encode())
    wanted = {'image': 'a.png', 'label,of': '1;2', 'x,y,z': '3'}
    assert read_rows(path) == (list(wanted), [(3, wanted)])
    path.write_text('sep=;\nimage;label\na.png\n')
    with pytest.raises(DataError, match='line 3: 1 fields'):
        read_rows(path)


@pytest.mark.parametrize(('data', 'message'), [
    (TEXT.encode('cp1252'), r"labels.csv, line 2: .*'.*weiß.*'; it seems to be Windows-1252 \(cp1252\)"),
    (TEXT.encode('utf-16-le'), 'seems to be UTF-16 without a byte order mark'),
    (TEXT.encode('utf-16-be'), 'seems to be UTF-16 without a byte order mark'),
    (TEXT.replace('glatt', 'gl\0tt').encode(), 'line 3: .* holds a NUL byte'),
    (b'PK\x03\x04rest of a workbook', r'a workbook \(.xlsx\)'),
    (TEXT.encode('utf-16')[:-1], 'begins as utf-16 and is damaged at byte'),
], ids=['cp1252', 'utf-16-le', 'utf-16-be', 'nul', 'xlsx', 'cut'])
def test_refused_with_the_remedy(tmp_path, data, message):
    path = tmp_path / 'labels.csv'
    path.write_bytes(data)
    with pytest.raises(DataError, match=message + ".*save it as 'CSV UTF-8'"):
        read_rows(path)
