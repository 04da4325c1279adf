// Hashes the files of a folder, for a manifest or checksum list. Digests of a folder that changes while it is
// read would describe a state that never existed, so unlike in verify_release() a file that cannot be read or
// that changes is an Error. base::compute_digests() uses several threads; the rest runs in the caller's
// thread.

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/file.h"
#include "base/merkle.h"
#include "base/multi_digest.h"
#include "verify/folder_scan.h"
#include "verify/verify.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBlocksPerNode = 1024;  // nodes of 16 MiB bound the memory for trees

/// The order of BEP 52's file tree: element by element, by bytes.
bool in_tree_order(const base::DigestInput& a, const base::DigestInput& b) {
  return std::ranges::lexicographical_compare(
      a.path, b.path, [](const fs::path& x, const fs::path& y) { return x.native() < y.native(); });
}

std::vector<base::DigestInput> list_folder(const fs::path& folder) {
  std::vector<base::DigestInput> inputs;
  const FolderScan scan = FolderScan::walk(folder);
  for (const auto& [path, entry] : scan.entries()) {
    if (entry.kind == EntryKind::folder) continue;
    // A manifest lists regular files only. Leaving a link out in silence would make a manifest that the
    // folder does not match.
    if (const auto problem = describe(entry.kind); !problem.empty())
      base::throw_malformed((folder / path).string(), problem);
    inputs.push_back({folder / path, entry.bytes, false});
  }
  std::ranges::sort(inputs, in_tree_order);
  return inputs;
}

base::Sha256 root_of(const base::FileDigests& digests) {
  // Only files of more than kBlocksPerNode blocks have a layer; for smaller ones all leaves are there.
  constexpr auto kHeight = static_cast<unsigned>(std::countr_zero(kBlocksPerNode));
  if (!digests.layer.empty()) return base::merkle_root(digests.layer, kHeight);
  return base::merkle_root(digests.leaves);
}

}  // namespace

std::vector<format::ManifestFile> hash_release(const fs::path& path, const Options& options,
                                               base::Progress& progress, const std::stop_token& stop) {
  // Folders are listed in the order of a torrent, so that a manifest and a torrent of one folder agree.
  const bool is_folder = fs::is_directory(path);
  std::vector<base::DigestInput> inputs;
  if (is_folder) {
    inputs = list_folder(path);
  } else {
    inputs.push_back({path, base::File::open_read(path).size_bytes(), false});
  }
  std::uint64_t total_bytes = 0;
  for (const auto& input : inputs) total_bytes += input.length_bytes;
  progress.begin("hashing", total_bytes);
  base::DigestWants wants;
  wants.sha256 = true;
  wants.leaves = true;
  wants.blocks_per_node = kBlocksPerNode;
  const auto digests =
      base::compute_digests(inputs, wants, {options.thread_count, options.memory_bytes}, progress, stop);

  std::vector<format::ManifestFile> files;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const base::FileDigests& found = digests.files[i];
    if (found.state != base::ReadState::complete) {
      const std::string why = found.problem.empty() ? "it changed while it was read" : found.problem;
      throw base::Error(base::ErrorKind::io, inputs[i].path.string() + ": " + why);
    }
    format::ManifestFile& file = files.emplace_back();
    file.path =
        is_folder ? inputs[i].path.lexically_relative(path).generic_string() : path.filename().string();
    file.length_bytes = inputs[i].length_bytes;
    file.sha256 = found.sha256;
    if (inputs[i].length_bytes > 0) file.root = root_of(found);  // BEP 52: an empty file has none
  }
  return files;
}

}  // namespace sluice::verify
