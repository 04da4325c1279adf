#include "library/reference_reader.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "fetch/fetch.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

/// It names one of the torrent's info-hashes; that it does not contradict the other is verify's to see.
bool names(const format::Manifest& manifest, const format::ReleaseLayout& layout) {
  const auto same = [](const auto& a, const auto& b) { return a && b && *a == *b; };
  return same(manifest.infohash_v1, layout.infohash_v1) || same(manifest.infohash_v2, layout.infohash_v2);
}

}  // namespace

format::Manifest StatementReader::read_manifest(const fs::path& path) {
  const std::string text = base::read_text_file(path, format::kManifestBytesMax);
  reports_.push_back(judge_.judge(path, base::as_bytes(text)));
  return format::parse_manifest(text, path.string());
}

std::vector<format::ManifestFile> StatementReader::read_sums(const fs::path& path) {
  const std::string text = base::read_text_file(path, format::kManifestBytesMax);
  reports_.push_back(judge_.judge(path, base::as_bytes(text)));
  return format::parse_sums(text);
}

void StatementReader::take_torrent(const fs::path& path) {
  std::error_code absent;
  if (fs::exists(signature_path(path), absent)) {
    const std::string content = base::read_text_file(path, fetch::kTorrentBytesMax);
    torrent_ = judge_.judge(path, base::as_bytes(content));
  } else {
    torrent_.emplace().file = path.string();
  }
}

std::vector<SignatureReport> StatementReader::conclude(const format::ReleaseLayout* layout,
                                                       const format::Manifest* manifest) const {
  const auto is_signed = [](const SignatureReport& report) { return report.state == SignatureState::valid; };
  auto all = reports_;
  if (torrent_) {
    const bool bound = layout != nullptr && manifest != nullptr && names(*manifest, *layout) &&
                       std::ranges::all_of(reports_, is_signed);
    if (!bound || is_signed(*torrent_)) all.push_back(*torrent_);
    if (!bound && !is_signed(*torrent_) && judge_.has_key()) {
      throw base::Error(
          base::ErrorKind::untrusted,
          torrent_->file +
              ": is not signed, and no signed manifest names its info-hash; --manifest or --sums "
              "verifies against a signed file alone");
    }
  }
  std::ranges::stable_sort(all, {}, is_signed);
  return all;
}

}  // namespace sluice::cli
