// A reference counts only after its signature was verified over the bytes that are parsed. Reading collects
// the signatures; conclude() decides what they are worth together.

#include "library/reference_reader.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "library/infohash.h"
#include "library/list_names.h"

namespace sluice::library {

namespace fs = std::filesystem;

format::Manifest ReferenceReader::read_manifest(const fs::path& path, std::uint64_t memory_bytes) {
  // The text takes at most a quarter of the memory, its values a half; the rest is for the program and the
  // manifest that is made of them.
  const std::uint64_t text_bytes_max = std::min(memory_bytes / 4, format::kManifestBytesMax);
  const std::uint64_t text_bytes = base::File::open_read(path).size_bytes();
  if (text_bytes > text_bytes_max && text_bytes <= format::kManifestBytesMax)
    throw base::Error(base::ErrorKind::usage,
                      path.string() + ": has " + base::to_human_bytes(text_bytes) +
                          ", the most that can be read with --memory " + base::to_human_bytes(memory_bytes) +
                          " is " + base::to_human_bytes(text_bytes_max) + "; give at least --memory " +
                          std::to_string((4 * text_bytes >> 20) + 1) + "MiB");
  // The text is read once. Reading the file again for parsing would let it be exchanged after its signature
  // was verified.
  const std::string text = base::read_text_file(path, format::kManifestBytesMax);
  SignatureReport report = verifier_.verify(path, base::as_bytes(text));
  format::Manifest manifest = format::parse_manifest(text, path.string(), memory_bytes / 2);
  reports_.push_back(std::move(report));  // a manifest that cannot be read is worth nothing
  return manifest;
}

format::ChecksumList ReferenceReader::read_sums(
    const fs::path& path, const std::function<bool(const format::ChecksumList&)>& wanted) {
  const std::string text = base::read_text_file(path, format::kManifestBytesMax);
  auto list = format::parse_sums(text, path.string(), listed_name(path.filename().string()), stop_);
  // A list of other files must not stop the search by its signature.
  if (!wanted || wanted(list)) reports_.push_back(verifier_.verify(path, base::as_bytes(text)));
  return list;
}

format::ReleaseLayout ReferenceReader::read_torrent(const fs::path& path) {
  return take_torrent(path, fetch::read_torrent(path));
}

format::ReleaseLayout ReferenceReader::take_torrent(const fs::path& path, format::ReleaseLayout parsed) {
  // When the torrent is signed, the signed bytes are parsed and the first result is dropped.
  const std::string content = verify_torrent(path);
  return content.empty() ? std::move(parsed) : fetch::parse_torrent(content, path.string());
}

std::string ReferenceReader::verify_torrent(const fs::path& path) {
  std::error_code absent;
  if (!fs::exists(signature_path(path), absent)) {
    // A missing signature is not judged here: a signed manifest may name the torrent, and that is known only
    // in conclude().
    torrent_.emplace().file = path.string();
    return {};
  }
  std::string content = base::read_text_file(path, fetch::kTorrentBytesMax);
  torrent_ = verifier_.verify(path, base::as_bytes(content));
  return content;
}

std::vector<SignatureReport> ReferenceReader::conclude(const format::ReleaseLayout* layout,
                                                       const format::Manifest* manifest) const {
  const auto is_signed = [](const SignatureReport& report) { return report.state == SignatureState::valid; };
  auto all = reports_;
  if (torrent_) {
    // An info-hash covers everything that a torrent says about its files, so a signed manifest that names it
    // vouches for the torrent.
    const bool bound = layout != nullptr && manifest != nullptr && names_torrent(*manifest, *layout) &&
                       std::ranges::all_of(reports_, is_signed);
    if (!bound || is_signed(*torrent_)) all.push_back(*torrent_);
    if (!bound && !is_signed(*torrent_) && verifier_.has_key()) {
      throw base::Error(
          base::ErrorKind::untrusted,
          torrent_->file +
              ": is not signed, and no signed manifest names its info-hash; --manifest or --sums "
              "verifies against a signed file alone");
    }
  }
  // false sorts before true, so reports that are not valid come first.
  std::ranges::stable_sort(all, {}, is_signed);
  return all;
}

}  // namespace sluice::library
