// The table of checkpoint kinds, and the files that people have instead of a checkpoint. A kind is told by
// its first bytes, not by its name, because downloads get arbitrary names; the name only decides which error
// message a file without known bytes gets.

#include "format/checkpoint_kind.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/checkpoint_index.h"
#include "format/gguf/gguf.h"
#include "format/grok/grok_release.h"
#include "format/safetensors.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

constexpr std::size_t kHeadBytes = 512;  // tar's magic is at byte 257

struct KnownKind {
  CheckpointKind kind;
  std::string_view name;
  bool (*has_magic)(std::string_view head);
  std::array<std::string_view, 2> extensions;  ///< unused places are empty
  CheckpointIndex (*open)(const fs::path& file);
};

// A new kind of checkpoint is one more row here.
constexpr std::array<KnownKind, 4> kKinds{{
    {CheckpointKind::pth, "pth", is_zip, {".pth", ".pt"}, open_pth},
    {CheckpointKind::safetensors,
     "safetensors",
     looks_like_safetensors,
     {".safetensors", ""},
     open_safetensors},
    {CheckpointKind::gguf, "gguf", is_gguf, {".gguf", ""}, open_gguf},
    {CheckpointKind::pickle, "pickle", is_pickled_array, {"", ""}, open_pickle},
}};

const KnownKind& entry(CheckpointKind kind) {
  const auto found = std::ranges::find(kKinds, kind, &KnownKind::kind);
  INVARIANT(found != kKinds.end());
  return *found;
}

std::optional<CheckpointKind> find_by_magic(std::string_view head) {
  const auto found = std::ranges::find_if(kKinds, [&](const KnownKind& one) { return one.has_magic(head); });
  return found == kKinds.end() ? std::nullopt : std::optional(found->kind);
}

/// Compares extensions exactly: file names in releases are lower case.
std::optional<CheckpointKind> find_by_extension(const std::string& extension) {
  if (extension.empty()) return std::nullopt;
  const auto found = std::ranges::find_if(kKinds, [&](const KnownKind& one) {
    return std::ranges::find(one.extensions, extension) != one.extensions.end();
  });
  return found == kKinds.end() ? std::nullopt : std::optional(found->kind);
}

/// A file format that people mistake for a checkpoint. The first entry that matches names it, so special
/// cases come before general ones.
struct Lookalike {
  std::size_t offset_bytes;
  std::string_view magic;
  std::string_view what;
};

// What the file should be stands for this word in the descriptions.
constexpr std::string_view kExpected = "{}";
constexpr std::string_view kWebPage = "is a web page, not a {}: the download saved an error page";

constexpr std::array<Lookalike, 14> kLookalikes{{
    // torch's magic number 0x1950a86a20f9469cfc6c, pickled: torch/serialization.py, _legacy_save
    {2, "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."sv,
     "is in torch's format from before version 1.6, which is not supported: load and save it with a newer "
     "torch"},
    {0, "\x80"sv, "is a bare pickle, not a torch zip file"},
    {257, "ustar"sv,
     "is a tar archive: unpack it first (torch's own tar format, before 0.2, is not supported)"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "is a 7z archive, not a {}"},
    {0, "\x1f\x8b"sv, "is a gzip file, not a {}: unpack it first"},
    {0, "PK\x05\x06"sv, "is an empty zip archive"},
    {0, "<!"sv, kWebPage},
    {0, "<?"sv, kWebPage},
    {0, "<h"sv, kWebPage},
    {0, "<H"sv, kWebPage},
    {0, "version https://git-lfs"sv, "is a Git LFS pointer, not the {} it stands for"},
    {0, "GGUF"sv, "is a GGUF file, not a torch zip file"},
    {0, "\x89HDF"sv, "is an HDF5 file, not a {} of a kind that is supported"},
    {0, "\x93NUMPY"sv, "is a NumPy file, not a {} of a kind that is supported"},
}};

}  // namespace

std::string_view to_string(CheckpointKind kind) { return entry(kind).name; }

std::optional<CheckpointKind> recognise_checkpoint(const fs::path& file) {
  const auto kind = find_by_magic(read_head(base::File::open_read(file)));
  return kind ? kind : find_by_extension(file.extension().string());
}

bool is_checkpoint(const fs::path& file) {
  return find_by_magic(read_head(base::File::open_read(file))).has_value();
}

CheckpointIndex open_checkpoint_file(CheckpointKind kind, const fs::path& file) {
  return entry(kind).open(file);
}

std::string read_head(const base::File& file) {
  std::string head(kHeadBytes, '\0');
  head.resize(file.read_at(0, {reinterpret_cast<std::byte*>(head.data()), head.size()}));
  return head;
}

bool is_zip(std::string_view head) { return head.starts_with("PK\x03\x04"sv); }

bool is_gguf(std::string_view head) { return head.starts_with(kGgufMagic); }

bool looks_like_safetensors(std::string_view head) {
  // safetensors has no magic: 8 bytes of length, then a JSON object, perhaps after white space.
  if (head.size() < 10) return false;
  const auto length_bytes = base::load_le<std::uint64_t>(base::as_bytes(head));
  if (length_bytes < 2 || length_bytes > kSafetensorsHeaderBytesMax) return false;
  const std::size_t first = head.find_first_not_of(" \t\r\n", 8);
  return first == std::string_view::npos || head[first] == '{';
}

std::string describe_lookalike(std::string_view head, std::string_view expected) {
  for (const auto& [offset_bytes, magic, what] : kLookalikes) {
    if (head.size() <= offset_bytes || !head.substr(offset_bytes).starts_with(magic)) continue;
    std::string text(what);
    if (const auto at = text.find(kExpected); at != std::string::npos)
      text.replace(at, kExpected.size(), expected);
    return text;
  }
  return {};
}

}  // namespace sluice::format
