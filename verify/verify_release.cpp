// A release folder against its torrent and its manifest, in one read of every byte.

#include <algorithm>
#include <set>

#include "base/merkle.h"
#include "verify/evidence.h"
#include "verify/folder_scan.h"
#include "verify/promise.h"
#include "verify/refine.h"
#include "verify/tensor_names.h"
#include "verify/verify.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using base::ByteRange;

// Rows of the tree when no torrent says how long its pieces are: 16 MiB a node.
constexpr std::uint64_t kBlocksPerNode = 1024;

FolderScan scan(const fs::path& folder, const Expectations& expectations,
                const std::vector<Promise>& promises) {
  // The only file of a release lies in a folder of the user's, whose other files are none of our business.
  const bool single_file = expectations.layout && expectations.layout->single_file;
  if (!single_file && !expectations.only_promised) return FolderScan::walk(folder);
  std::vector<std::string> paths;
  for (const Promise& promise : promises) paths.push_back(promise.path);
  return FolderScan::look_up(folder, paths);
}

base::DigestWants wants_of(const Expectations& expectations) {
  base::DigestWants wants;
  wants.blocks_per_node = kBlocksPerNode;
  if (expectations.manifest) {
    for (const format::ManifestFile& file : expectations.manifest->files) {
      wants.md5 |= file.md5.has_value();
      wants.sha256 |= file.sha256.has_value();
      wants.leaves |= file.root.has_value();
    }
  }
  if (!expectations.layout) return wants;
  if (!expectations.layout->v1_pieces.empty()) wants.v1_piece_bytes = expectations.layout->piece_bytes;
  bool leaves_known = false;
  for (const format::ReleaseFile& file : expectations.layout->files) {
    wants.leaves |= file.root.has_value() || !file.leaves.empty();
    if (!file.piece_layer.empty()) wants.blocks_per_node = blocks_per_piece(*expectations.layout);
    leaves_known |= !file.leaves.empty();
  }
  if (leaves_known) wants.blocks_per_node = 1;
  return wants;
}

/// Reads all promised files that can be read. The torrent's are one stream; those that only the manifest
/// names come after it and are in no v1 piece.
Computed compute(const fs::path& folder, const FolderScan& found, const Expectations& expectations,
                 const std::vector<Promise>& promises, const Options& options, base::Progress& progress,
                 const std::stop_token& stop) {
  std::vector<base::DigestInput> inputs;
  std::uint64_t total_bytes = 0;
  for (const Promise& promise : promises) {
    base::DigestInput input{folder / promise.path, promise.length_bytes().value_or(0), false};
    const Entry* entry = found.find(promise.path);
    if (promise.pad()) {
      input.path.clear();
    } else if (entry == nullptr || entry->kind != EntryKind::file) {
      input.skip = true;
    } else {
      if (!promise.length_bytes()) input.length_bytes = entry->bytes;
      total_bytes += std::min(entry->bytes, input.length_bytes);
    }
    inputs.push_back(std::move(input));
  }
  progress.begin("verifying", total_bytes);

  const std::size_t in_torrent = expectations.layout ? expectations.layout->files.size() : 0;
  base::DigestOptions how;
  how.thread_count = options.thread_count;
  how.memory_bytes = options.memory_bytes;
  how.direct = options.direct;
  base::DigestWants wants = wants_of(expectations);
  const std::span<const base::DigestInput> all = inputs;
  Computed computed;
  computed.blocks_per_node = wants.blocks_per_node;
  computed.digests = base::compute_digests(all.first(in_torrent), wants, how, progress, stop);
  wants.v1_piece_bytes = 0;
  auto rest = base::compute_digests(all.subspan(in_torrent), wants, how, progress, stop);
  std::ranges::move(rest.files, std::back_inserter(computed.digests.files));
  return computed;
}

/// State, sentence and ranges of a promised file.
class FileReporter {
 public:
  FileReporter(const fs::path& folder, const Promise& promise, const Entry* entry,
               const base::FileDigests& digests, const Evidence& evidence)
      : folder_(folder), promise_(promise), entry_(entry), digests_(digests), evidence_(evidence) {}

  FileReport report() {
    report_.path = promise_.path;
    if (entry_ != nullptr && entry_->kind != EntryKind::file) {
      settle(FileState::unreadable, describe(entry_->kind));
    } else if (entry_ == nullptr || digests_.state == base::ReadState::missing) {
      report_missing();
    } else if (digests_.state == base::ReadState::unreadable) {
      settle(FileState::unreadable, digests_.problem);
    } else if (digests_.state == base::ReadState::changed) {
      settle(FileState::changed, "changed while it was read");
    } else {
      report_read();
    }
    return std::move(report_);
  }

 private:
  void settle(FileState state, std::string problem) {
    report_.state = state;
    report_.problem = std::move(problem);
    if (entry_ != nullptr) report_.bytes = entry_->bytes;
  }

  void add(const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) report_.damaged.push_back({.range = range});
  }

  void report_missing() {
    const auto length_bytes = promise_.length_bytes();
    settle(FileState::missing, length_bytes
                                   ? "is not there, expected " + std::to_string(*length_bytes) + " bytes"
                                   : "is not there");
    report_.bytes = 0;
    if (length_bytes.value_or(0) > 0) add({{0, *length_bytes}});
  }

  void report_read() {
    report_.bytes = digests_.found_bytes;
    std::vector<ByteRange> wrong = evidence_.bad;
    wrong.insert(wrong.end(), evidence_.unknown.begin(), evidence_.unknown.end());
    normalize(wrong);
    add(wrong);
    if (!evidence_.bad.empty()) {
      report_.state = FileState::damaged;
      report_.problem = evidence_.problem;
      if (report_.problem.empty()) {
        report_.problem = std::to_string(total_bytes(evidence_.bad)) + " of " +
                          std::to_string(digests_.found_bytes) + " bytes lie where the hashes differ";
      }
      const std::string unnamed = name_tensors(folder_ / promise_.path, report_.damaged);
      if (!unnamed.empty()) report_.problem += "; " + unnamed;
    } else if (!evidence_.unknown.empty()) {
      report_.state = FileState::unproven;
      report_.problem = std::to_string(total_bytes(evidence_.unknown)) +
                        " bytes share a piece with a file that cannot be read, expected all to be proven";
    } else if (!evidence_.compared && promise_.length_bytes() != 0) {
      report_.state = FileState::unproven;
      report_.problem = "has no digest to be compared with";
    }
  }

  const fs::path& folder_;
  const Promise& promise_;
  const Entry* entry_;
  const base::FileDigests& digests_;
  const Evidence& evidence_;
  FileReport report_;
};

void add_extra_files(const FolderScan& found, const std::vector<Promise>& promises,
                     const std::set<std::string>& statements, Report& report) {
  std::set<std::string_view> named(statements.begin(), statements.end());
  for (const Promise& promise : promises) named.insert(promise.path);
  for (const auto& [path, entry] : found.entries()) {
    if (entry.kind == EntryKind::folder || named.contains(path)) continue;
    FileReport file{path, FileState::extra, entry.bytes, describe(entry.kind), {}};
    if (promises.empty() && entry.kind == EntryKind::file) {
      file.state = FileState::unproven;
      file.problem = "has nothing to be compared with";
    }
    if (file.problem.empty()) file.problem = "is no part of the release";
    report.files.push_back(std::move(file));
  }
}

bool is_acceptable(FileState state, bool strict) {
  switch (state) {
    case FileState::ok: return true;
    case FileState::extra:
    case FileState::unproven: return !strict;
    default: return false;
  }
}

}  // namespace

Report verify_release(const fs::path& folder, const Expectations& expectations, const Options& options,
                      base::Progress& progress, const std::stop_token& stop) {
  const std::vector<Promise> promises = collect_promises(expectations);
  const FolderScan found = scan(folder, expectations, promises);
  const Computed computed = compute(folder, found, expectations, promises, options, progress, stop);
  Proofs proofs;
  std::vector<Evidence> evidence = weigh(expectations, promises, computed, proofs);
  if (expectations.leaves) refine(folder, expectations, promises, evidence);

  Report report;
  for (std::size_t i = 0; i < promises.size(); ++i) {
    if (promises[i].pad()) continue;
    const auto& digests = computed.digests.files[i];
    report.files.push_back(
        FileReporter(folder, promises[i], found.find(promises[i].path), digests, evidence[i]).report());
    if (evidence[i].compared)
      report.bytes += std::min(digests.found_bytes, promises[i].length_bytes().value_or(digests.found_bytes));
    for (const DamagedRange& damage : report.files.back().damaged)
      report.damaged_bytes += damage.range.length_bytes;
  }
  add_extra_files(found, promises, expectations.statements, report);
  if (proofs.v1) report.proven_by.emplace_back("v1");
  if (proofs.v2) report.proven_by.emplace_back("v2");
  if (proofs.sha256) report.proven_by.emplace_back("sha256");
  if (proofs.md5) report.proven_by.emplace_back("md5");
  report.ok = proofs.any() && std::ranges::all_of(report.files, [&](const FileReport& file) {
                return is_acceptable(file.state, options.strict);
              });
  return report;
}

}  // namespace sluice::verify
