#include "fetch/torrent/name_cleaner.h"

#include <iconv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <type_traits>

#include "base/ascii.h"
#include "base/text.h"

namespace sluice::fetch {
namespace {

constexpr std::string_view kDefaultEncoding = "WINDOWS-1252";

// The encodings that makers of torrents have named. iconv() knows hundreds more, and a stranger must not
// choose which of its converters runs: those with shift states (ISO-2022) have had memory errors.
constexpr std::array<std::string_view, 26> kEncodings = {
    "GBK",          "GB2312",       "GB18030",      "BIG5",         "BIG5-HKSCS",   "SHIFT_JIS",
    "CP932",        "EUC-JP",       "EUC-KR",       "CP949",        "KOI8-R",       "KOI8-U",
    "WINDOWS-1250", "WINDOWS-1251", "WINDOWS-1252", "WINDOWS-1253", "WINDOWS-1254", "ISO-8859-1",
    "ISO-8859-2",   "ISO-8859-5",   "ISO-8859-7",   "ISO-8859-9",   "ISO-8859-15",  "CP850",
    "CP866",        "TIS-620"};

struct CloseConverter {
  using pointer = iconv_t;
  void operator()(iconv_t converter) const { ::iconv_close(converter); }
};

/// Converts to UTF-8, with '_' for each byte that cannot be converted.
std::string decode(std::string_view text, const std::string& encoding) {
  std::string result;
  const iconv_t opened = ::iconv_open("UTF-8", encoding.c_str());
  // A minimal installation can lack the converters.
  if (opened == reinterpret_cast<iconv_t>(-1)) {
    std::ranges::transform(text, std::back_inserter(result),
                           [](char c) { return (c & 0x80) != 0 ? '_' : c; });
    return result;
  }
  const std::unique_ptr<std::remove_pointer_t<iconv_t>, CloseConverter> converter(opened);
  std::string input(text);
  char* from = input.data();
  std::size_t from_bytes = input.size();
  while (from_bytes > 0) {
    std::array<char, 256> part{};
    char* to = part.data();
    std::size_t to_bytes = part.size();
    const std::size_t converted = ::iconv(converter.get(), &from, &from_bytes, &to, &to_bytes);
    const int error = converted == static_cast<std::size_t>(-1) ? errno : 0;
    result.append(part.data(), part.size() - to_bytes);
    if (error == 0 || error == E2BIG) continue;  // E2BIG: the part is full
    result += '_';
    ++from;
    --from_bytes;
  }
  return result;
}

std::string to_sentence(std::uint64_t count, const std::string& what, const std::string& first) {
  return base::to_counted(count, "file name") + ' ' + what + "; the first is now '" + first + "'";
}

}  // namespace

NameCleaner::NameCleaner(std::string_view encoding) : encoding_(kDefaultEncoding) {
  const auto known = std::ranges::find_if(
      kEncodings, [&](std::string_view name) { return base::equals_ignoring_case(name, encoding); });
  if (known != kEncodings.end()) encoding_ = *known;
}

std::string NameCleaner::clean(std::string_view element) {
  const bool is_utf8 = base::is_utf8(element);
  std::string name = is_utf8 ? std::string(element) : decode(element, encoding_);
  // Backslashes come after decoding, since the second byte of a Shift JIS character can look like one.
  const bool has_backslash = name.find('\\') != name.npos;
  std::ranges::replace(name, '\\', '_');
  if (!is_utf8) note(decoded_, name);
  if (has_backslash) note(backslash_, name);
  return name;
}

void NameCleaner::note(Change& change, const std::string& name) {
  if (change.count++ == 0) change.first = name;
}

std::string NameCleaner::encoding_to_keep() const {
  return decoded_.count > 0 && encoding_ != kDefaultEncoding ? encoding_ : "";
}

std::vector<std::string> NameCleaner::warnings() const {
  std::vector<std::string> sentences;
  if (decoded_.count > 0)
    sentences.push_back(to_sentence(decoded_.count, "not in UTF-8, read as " + encoding_, decoded_.first));
  if (backslash_.count > 0)
    sentences.push_back(
        to_sentence(backslash_.count, "with a backslash, which becomes '_'", backslash_.first));
  return sentences;
}

}  // namespace sluice::fetch
