#include "base/signature_lines.h"

#include <algorithm>

#include "base/base64.h"
#include "base/error.h"
#include "base/text.h"

namespace sluice::base {

std::vector<std::string_view> split_lines(std::string_view text, std::size_t count,
                                          std::string_view subject) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    // Windows tools and mail programs end lines with CR LF.
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (lines.size() != count)
    throw_malformed(subject,
                    "has " + to_counted(lines.size(), "line") + ", expected " + std::to_string(count));
  return lines;
}

std::string_view comment_of(std::string_view line, std::size_t number, std::string_view prefix,
                            std::string_view subject) {
  if (!line.starts_with(prefix)) {
    throw_malformed(subject, "line " + std::to_string(number) + ": expected it to begin with '" +
                                 std::string(prefix) + "'");
  }
  return line.substr(prefix.size());
}

std::vector<std::byte> record_of(std::string_view line, std::size_t number, std::size_t bytes,
                                 std::string_view subject) {
  auto record = parse_base64(line);
  const std::string expected =
      "line " + std::to_string(number) + ": expected the base64 of " + to_counted(bytes, "byte") + ", found ";
  if (!record) throw_malformed(subject, expected + to_counted(line.size(), "character") + " that are none");
  if (record->size() != bytes)
    throw_malformed(subject, expected + "that of " + std::to_string(record->size()));
  return std::move(*record);
}

void require_mark(Bytes record, std::size_t offset, std::string_view expected, std::string_view what,
                  std::string_view subject) {
  const std::string_view found = as_text(record.subspan(offset, expected.size()));
  if (found == expected) return;
  throw_malformed(subject, "has the " + std::string(what) + " '" + to_printable(found) + "', expected '" +
                               std::string(expected) + "'");
}

void RecordReader::read(MutableBytes out) {
  std::ranges::copy(rest_.first(out.size()), out.begin());
  rest_ = rest_.subspan(out.size());
}

std::uint64_t RecordReader::read_uint() {
  const auto value = load_le<std::uint64_t>(rest_);
  rest_ = rest_.subspan(sizeof value);
  return value;
}

void append(std::vector<std::byte>& record, Bytes field) {
  record.insert(record.end(), field.begin(), field.end());
}

}  // namespace sluice::base
