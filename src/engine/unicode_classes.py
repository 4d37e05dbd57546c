"""Prints the Unicode classes that CLIP's word splitter knows, as C tables: letters (L*), numbers (N*), white space, and
one-character lower case. From the unicodedata of the Python that builds."""
import sys
import unicodedata


def ranges(wanted):
    start = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and wanted(chr(code))
        if inside and start is None:
            start = code
        if not inside and start is not None:
            yield start, code - 1
            start = None


def table(name, wanted):
    rows = ", ".join(f"{{{first}, {last}}}" for first, last in ranges(wanted))
    print(f"static const struct unicode_range {name}[] = {{{rows}}};")


print("struct unicode_range { unsigned first, last; };")
table("unicode_letters", lambda c: unicodedata.category(c)[0] == "L")
table("unicode_numbers", lambda c: unicodedata.category(c)[0] == "N")
table("unicode_spaces", str.isspace)
pairs = ((ord(c), ord(c.lower())) for c in map(chr, range(sys.maxunicode + 1)) if len(c.lower()) == 1 and c.lower() != c)
print("static const struct unicode_range unicode_lower[] = {%s};" % ", ".join("{%d, %d}" % pair for pair in pairs))
