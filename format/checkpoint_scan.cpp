// Finds the pickles of a file for pickle_scan.h. Nothing in the file is executed, and no content of it is an
// error: a file that cannot be understood simply has no pickles to report. Everything runs on the caller's
// thread.

#include "format/checkpoint_scan.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/zip_index.h"

namespace sluice::format {
namespace {

// torch's old format has five pickles: magic number, protocol, system, state dict, storage keys.
constexpr std::size_t kPicklesMax = 16;
constexpr std::uint8_t kProtocolMax = 5;

constexpr std::array<std::string_view, 9> kPickleExtensions{".pkl", ".pickle", ".p",     ".pt", ".pth",
                                                            ".bin", ".ckpt",   ".model", ".dat"};

bool ends_like_a_pickle(std::string_view name) { return name.ends_with(".pkl") || name.ends_with(".pickle"); }

bool starts_with_protocol(base::Bytes bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x80} &&
         std::to_integer<unsigned>(bytes[1]) <= kProtocolMax;
}

/// Scans the pickles in a zip. The outline is used because the strict reader refuses exactly the files that
/// are worth a look; a file without an outline has nothing that could be scanned.
std::vector<ScannedPickle> scan_members(const std::filesystem::path& path, base::Bytes bytes) {
  std::vector<ScannedPickle> pickles;
  std::vector<ZipMember> members;
  try {
    members = read_zip_outline(base::File::open_read(path));
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
  }
  for (const ZipMember& member : members) {
    if (!ends_like_a_pickle(member.name)) continue;
    pickles.push_back({base::to_printable(std::filesystem::path(member.name).filename().string()),
                       scan_pickle(bytes.subspan(static_cast<std::size_t>(member.offset_bytes),
                                                 static_cast<std::size_t>(member.length_bytes)))});
  }
  return pickles;
}

/// Scans pickles one after another, as in torch's old format. Offsets count from the start of the file. A
/// further pickle must begin with a protocol, otherwise the payload behind the last one would be scanned as
/// well.
std::vector<ScannedPickle> scan_sequence(base::Bytes bytes) {
  std::vector<ScannedPickle> pickles;
  std::size_t start = 0;
  do {
    pickles.push_back({"", scan_pickle(bytes, start)});
    start = static_cast<std::size_t>(pickles.back().scan.end_bytes);
  } while (pickles.size() < kPicklesMax && pickles.back().scan.problem.empty() &&
           starts_with_protocol(bytes.subspan(start)));
  return pickles;
}

}  // namespace

std::vector<ScannedPickle> scan_pickles(const std::filesystem::path& path) {
  const auto file = base::MappedFile::open_read(path);
  const base::Bytes bytes = file.bytes();
  if (base::as_text(bytes).starts_with("PK\x03\x04")) return scan_members(path, bytes);
  if (starts_with_protocol(bytes)) return scan_sequence(bytes);
  // Pickles of protocols 0 and 1 may begin with any opcode. A file counts as one when it has the extension of
  // a pickle and the scan reaches STOP.
  if (std::ranges::find(kPickleExtensions, path.extension().string()) == kPickleExtensions.end()) return {};
  auto pickles = scan_sequence(bytes);
  if (!pickles.front().scan.problem.empty()) return {};
  return pickles;
}

std::string to_sentence(const std::vector<ScannedPickle>& pickles) {
  std::string text;
  for (const ScannedPickle& pickle : pickles) {
    if (pickle.scan.acts.empty()) continue;
    text += (text.empty() ? "loaded with Python, " : "; ") + (pickle.name.empty() ? "it" : pickle.name) +
            " " + to_sentence(pickle.scan);
  }
  return text;
}

}  // namespace sluice::format
