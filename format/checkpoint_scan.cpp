// Finds the pickles of a file for pickle_scan.h. Nothing in the file is executed, and no content of it is an
// error. A file must not seem harmless because this program reads it more strictly than the one that will
// load it: where a zip file is not one that torch writes, every local header counts (zip_sweep.h), and what
// cannot be read to its end is reported as a pickle that the scan gave up. Everything runs on the caller's
// thread.

#include "format/checkpoint_scan.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "base/zip_codec.h"
#include "format/zip_index.h"
#include "format/zip_sweep.h"

namespace sluice::format {
namespace {

// torch's old format has five pickles: magic number, protocol, system, state dict, storage keys.
constexpr std::size_t kPicklesMax = 1u << 16;
// Bounds on what a hostile zip file can cost: local headers may overlap, and compressed bytes may become
// many.
constexpr std::size_t kInflatedBytesMax = 64u << 20;
constexpr std::uint64_t kSweptBytesMax = 1u << 30;
// Looking at a member takes about as long as scanning so much.
constexpr std::uint64_t kMemberCostBytes = 512;
constexpr std::uint8_t kProtocolMax = 5;

constexpr std::array<std::string_view, 9> kPickleExtensions{".pkl", ".pickle", ".p",     ".pt", ".pth",
                                                            ".bin", ".ckpt",   ".model", ".dat"};

bool ends_like_a_pickle(std::string_view name) { return name.ends_with(".pkl") || name.ends_with(".pickle"); }

bool starts_with_protocol(base::Bytes bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x80} &&
         std::to_integer<unsigned>(bytes[1]) <= kProtocolMax;
}

ScannedPickle given_up(std::string name, std::string why) {
  ScannedPickle pickle{std::move(name), {}};
  pickle.scan.problem = std::move(why);
  pickle.scan.gave_up = true;
  return pickle;
}

/// The name as messages show it: without folders.
std::string shown_name(std::string_view name) {
  return base::to_printable(std::filesystem::path(name).filename().string());
}

/// Scans the pickles of a zip file by its directory.
std::vector<ScannedPickle> scan_listed(const std::vector<ZipMember>& members, base::Bytes bytes) {
  std::vector<ScannedPickle> pickles;
  for (const ZipMember& member : members) {
    if (!ends_like_a_pickle(member.name)) continue;
    pickles.push_back(
        {shown_name(member.name), scan_pickle(bytes.subspan(static_cast<std::size_t>(member.offset_bytes),
                                                            static_cast<std::size_t>(member.length_bytes)))});
  }
  return pickles;
}

/// Scans what may be a pickle behind any local header of a zip file, both as stored and as deflated: which of
/// the two a reader does depends on the copy of the header that it believes.
class MemberSweep final {
 public:
  explicit MemberSweep(base::Bytes file) : file_(file) {}

  [[nodiscard]] std::vector<ScannedPickle> scan() {
    SweptMember member;
    for (std::size_t from = 0; next_member(file_, from, member);) {
      if (spent_bytes_ > kSweptBytesMax || pickles_.size() >= kPicklesMax) {
        pickles_.push_back(given_up("", "its zip members have more than " + std::to_string(kSweptBytesMax) +
                                            " bytes of pickles, or are more than " +
                                            std::to_string(kPicklesMax)));
        break;
      }
      scan(member);
    }
    return std::move(pickles_);
  }

 private:
  void scan(const SweptMember& member) {
    spent_bytes_ += kMemberCostBytes;
    const base::Bytes stored = file_.subspan(member.offset_bytes);
    const bool named_so = ends_like_a_pickle(member.name);
    bool sound = false;
    if (named_so || starts_with_protocol(stored)) sound |= scan(member, stored, named_so);
    // The first bytes tell whether the rest is worth decompressing.
    const auto head = base::inflate(stored, 2);
    if (head && (named_so || starts_with_protocol(head->bytes))) {
      const auto inflated = base::inflate(stored, kInflatedBytesMax);
      spent_bytes_ += inflated ? inflated->bytes.size() : 0;
      if (inflated) sound |= scan(member, inflated->bytes, named_so) && inflated->complete;
    }
    if (!named_so || sound) return;
    std::string why = "zip member '" + base::to_printable(member.name) + "' ";
    if (member.encrypted) {
      why += "is encrypted";
    } else if (member.method != 0 && member.method != 8) {
      why += "is compressed by method " + std::to_string(member.method);
    } else {
      why += "is not a pickle that can be read to its end within " + std::to_string(kInflatedBytesMax) +
             " bytes";
    }
    pickles_.push_back(given_up(shown_name(member.name), std::move(why)));
  }

  /// Keeps a scan that found something; of other bytes than a pickle's, a scan finds nothing that has a name.
  /// True when the pickle was read to its end.
  bool scan(const SweptMember& member, base::Bytes bytes, bool named_so) {
    ScannedPickle pickle{shown_name(member.name), scan_pickle(bytes)};
    const bool complete = pickle.scan.is_complete();
    spent_bytes_ += pickle.scan.end_bytes;
    if (pickle.scan.has_named_import || pickle.scan.gave_up || (named_so && complete))
      pickles_.push_back(std::move(pickle));
    return complete;
  }

  base::Bytes file_;
  std::uint64_t spent_bytes_ = 0;
  std::vector<ScannedPickle> pickles_;
};

std::vector<ScannedPickle> scan_members(const std::filesystem::path& path, base::Bytes bytes,
                                        PickleSearch search) {
  try {
    return scan_listed(read_zip_index(base::File::open_read(path)), bytes);
  } catch (const base::Error& error) {
    // Strict readers refuse exactly the files that are worth a look.
    if (error.kind() != base::ErrorKind::malformed) throw;
  }
  if (search == PickleSearch::whole_file) return MemberSweep(bytes).scan();
  try {
    return scan_listed(read_zip_outline(base::File::open_read(path)), bytes);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    return {};
  }
}

/// True for a scan of what looks like a pickle only because of its place: it was read to its end, or it names
/// an import, or it is longer than the scan.
bool is_likely_pickle(const PickleScan& scan) {
  return scan.is_complete() || scan.has_named_import || scan.gave_up;
}

/// Scans pickles one after another, as in torch's old format. Offsets count from the start of the file.
/// Behind a pickle, another one without a protocol at its start counts only when it names an import: it may
/// as well be payload.
std::vector<ScannedPickle> scan_sequence(base::Bytes bytes) {
  std::vector<ScannedPickle> pickles;
  std::size_t start = 0;
  while (true) {
    ScannedPickle pickle{"", scan_pickle(bytes, start)};
    const bool counts =
        pickles.empty() || starts_with_protocol(bytes.subspan(start)) || pickle.scan.has_named_import;
    if (!counts) break;
    start = static_cast<std::size_t>(pickle.scan.end_bytes);
    const bool complete = pickle.scan.is_complete();
    pickles.push_back(std::move(pickle));
    if (!complete || start == bytes.size()) break;
    if (pickles.size() >= kPicklesMax) {
      pickles.push_back(given_up("", "more than " + std::to_string(kPicklesMax) + " pickles"));
      break;
    }
  }
  return pickles;
}

/// Scans a file whose first bytes may be a pickle's. Pickles of protocols 0 and 1 may begin with any opcode,
/// so without a protocol the extension decides whether the file may be one.
std::vector<ScannedPickle> scan_bare(const std::filesystem::path& path, base::Bytes bytes) {
  if (starts_with_protocol(bytes)) return scan_sequence(bytes);
  if (std::ranges::find(kPickleExtensions, path.extension().string()) == kPickleExtensions.end()) return {};
  auto pickles = scan_sequence(bytes);
  if (!is_likely_pickle(pickles.front().scan)) return {};
  return pickles;
}

}  // namespace

std::vector<ScannedPickle> scan_pickles(const std::filesystem::path& path, PickleSearch search) {
  const auto file = base::MappedFile::open_read(path);
  const base::Bytes bytes = file.bytes();
  std::vector<ScannedPickle> pickles;
  if (may_be_zip(bytes)) pickles = scan_members(path, bytes, search);
  // Bytes in front of a zip file may be a pickle, which other readers load instead.
  if (!base::as_text(bytes).starts_with("PK\x03\x04")) {
    auto bare = scan_bare(path, bytes);
    std::ranges::move(bare, std::back_inserter(pickles));
  }
  file.require_whole();
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

std::string unscanned_sentence(const std::vector<ScannedPickle>& pickles) {
  for (const ScannedPickle& pickle : pickles) {
    if (!pickle.scan.gave_up) continue;
    return "it is not known what loading " + (pickle.name.empty() ? "it" : pickle.name) +
           " with Python would execute, because the scan gave up at a limit: " + pickle.scan.problem;
  }
  return {};
}

}  // namespace sluice::format
