#include "tests/verify/release_maker.h"

#include <algorithm>
#include <stdexcept>

#include "base/file.h"
#include "base/hasher.h"

namespace sluice::tests {
namespace {

constexpr std::size_t kBlockBytes = 16384;

std::vector<base::Sha256> leaves_of(const Content& content) {
  std::vector<base::Sha256> leaves;
  for (std::size_t at = 0; at < content.size(); at += kBlockBytes) {
    const std::size_t count = std::min(kBlockBytes, content.size() - at);
    leaves.push_back(base::hash<base::Sha256>(base::Bytes(content).subspan(at, count)));
  }
  return leaves;
}

base::Sha256 root_of(std::vector<base::Sha256> row, std::size_t width) {
  row.resize(width);
  for (; row.size() > 1; row.resize(row.size() / 2)) {
    for (std::size_t i = 0; i < row.size() / 2; ++i) {
      Content both(row[2 * i].bytes.begin(), row[2 * i].bytes.end());
      both.insert(both.end(), row[2 * i + 1].bytes.begin(), row[2 * i + 1].bytes.end());
      row[i] = base::hash<base::Sha256>(both);
    }
  }
  return row.front();
}

void add_tree(format::ReleaseFile& file, const Content& content, std::uint64_t piece_bytes, Hashes hashes) {
  if (content.empty()) return;
  const auto leaves = leaves_of(content);
  std::size_t width = 1;
  while (width < leaves.size()) width *= 2;
  file.root = root_of(leaves, width);
  if (hashes == Hashes::v2_leaves) file.leaves = leaves;
  if (hashes == Hashes::v2_roots || content.size() <= piece_bytes) return;
  const auto blocks = static_cast<std::size_t>(piece_bytes) / kBlockBytes;
  for (std::size_t at = 0; at < leaves.size(); at += blocks) {
    const auto first = leaves.begin() + static_cast<std::ptrdiff_t>(at);
    const auto count = static_cast<std::ptrdiff_t>(std::min(blocks, leaves.size() - at));
    file.piece_layer.push_back(root_of({first, first + count}, blocks));
  }
}

}  // namespace

MadeFile& MadeRelease::file(const std::string& path) {
  const auto found = std::ranges::find(files, path, &MadeFile::path);
  if (found == files.end()) throw std::logic_error("no such file: " + path);
  return *found;
}

void add_pads(MadeRelease& release) {
  std::vector<MadeFile> padded;
  for (std::size_t i = 0; i < release.files.size(); ++i) {
    padded.push_back(release.files[i]);
    const std::uint64_t over = release.files[i].content.size() % release.piece_bytes;
    if (over == 0 || i + 1 == release.files.size()) continue;
    const std::uint64_t pad_bytes = release.piece_bytes - over;
    padded.push_back(
        {".pad/" + std::to_string(pad_bytes), Content(static_cast<std::size_t>(pad_bytes)), true});
  }
  release.files = std::move(padded);
}

void write_release(const std::filesystem::path& folder, const MadeRelease& release) {
  for (const MadeFile& file : release.files) {
    if (file.pad) continue;
    std::filesystem::create_directories((folder / file.path).parent_path());
    base::File::create(folder / file.path).write_at(0, file.content);
  }
}

format::ReleaseLayout make_layout(const MadeRelease& release, Hashes hashes) {
  format::ReleaseLayout layout;
  layout.name = "release";
  layout.piece_bytes = release.piece_bytes;
  Content stream;
  for (const MadeFile& made : release.files) {
    format::ReleaseFile& file = layout.files.emplace_back();
    file.path = made.path;
    file.length_bytes = made.content.size();
    file.pad = made.pad;
    if (hashes != Hashes::v1 && !made.pad) add_tree(file, made.content, release.piece_bytes, hashes);
    stream.insert(stream.end(), made.content.begin(), made.content.end());
  }
  if (hashes != Hashes::v1 && hashes != Hashes::hybrid) return layout;
  for (std::size_t at = 0; at < stream.size(); at += release.piece_bytes) {
    const std::size_t count = std::min<std::size_t>(release.piece_bytes, stream.size() - at);
    layout.v1_pieces.push_back(base::hash<base::Sha1>(base::Bytes(stream).subspan(at, count)));
  }
  return layout;
}

}  // namespace sluice::tests
