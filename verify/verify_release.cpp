// Verifies a release folder against its torrent and its manifest, and reads every byte once. The steps of
// verify_release(): list what is expected of each file, scan the folder, compute the digests that are needed,
// compare them, locate damage within pieces when there is a leaf file, and report each file.
// base::compute_digests() uses several threads; everything else runs in the caller's thread.

#include <algorithm>
#include <set>

#include "base/merkle.h"
#include "verify/expected_file.h"
#include "verify/file_findings.h"
#include "verify/folder_scan.h"
#include "verify/locate_blocks.h"
#include "verify/tensor_names.h"
#include "verify/verify.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using base::ByteRange;

// Nodes cover 1024 blocks of 16 KiB (16 MiB) when no torrent states the length of its pieces. Leaves alone
// would take 1/512 of the release in memory, 174 MiB for 87 GiB.
constexpr std::uint64_t kBlocksPerNode = 1024;

FolderScan scan(const fs::path& folder, const Expectations& expectations,
                const std::vector<ExpectedFile>& expected_files) {
  // A single-file release lies in a folder of the user, whose other files have nothing to do with it.
  const bool single_file = expectations.layout && expectations.layout->single_file;
  if (!single_file && !expectations.only_expected) return FolderScan::walk(folder);
  std::vector<std::string> paths;
  for (const ExpectedFile& file : expected_files) paths.push_back(file.path);
  return FolderScan::look_up(folder, paths);
}

/// Asks for the digests that some reference needs, and for no others: each kind costs time for every byte.
/// The choice is made for the release and not for each file, because compute_digests() takes one choice for a
/// stream.
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
    // With nodes as large as pieces, the rows can be compared with the piece layers as they are.
    if (!file.piece_layer.empty()) wants.blocks_per_node = blocks_per_piece(*expectations.layout);
    leaves_known |= !file.leaves.empty();
  }
  if (leaves_known) wants.blocks_per_node = 1;  // known leaves are compared one by one, so all are needed
  return wants;
}

/// Reads all expected files that can be read. The torrent's files are one stream; files that only the
/// manifest lists come after it and are in no v1 piece.
ComputedDigests compute(const fs::path& folder, const FolderScan& found, const Expectations& expectations,
                        const std::vector<ExpectedFile>& expected_files, const Options& options,
                        base::Progress& progress, const std::stop_token& stop) {
  std::vector<base::DigestInput> inputs;
  std::uint64_t total_bytes = 0;
  for (const ExpectedFile& file : expected_files) {
    // A pad file has no path, and compute_digests() supplies its zeros. A file that is not there is skipped
    // and keeps its place, so that the pieces after it stay aligned.
    base::DigestInput input{folder / file.path, file.length_bytes().value_or(0), false};
    const FolderEntry* entry = found.find(file.path);
    if (file.pad()) {
      input.path.clear();
    } else if (entry == nullptr || entry->kind != EntryKind::file) {
      input.skip = true;
    } else {
      // A checksum list states no lengths, so the file is read to its end.
      if (!file.length_bytes()) input.length_bytes = entry->bytes;
      total_bytes += std::min(entry->bytes, input.length_bytes);
    }
    inputs.push_back(std::move(input));
  }
  progress.begin("verifying", total_bytes);

  // The torrent's files come first in `expected_files`, so the stream is a prefix.
  const std::size_t in_torrent = expectations.layout ? expectations.layout->files.size() : 0;
  base::DigestOptions how;
  how.thread_count = options.thread_count;
  how.memory_bytes = options.memory_bytes;
  how.direct = options.direct;
  base::DigestWants wants = wants_of(expectations);
  const std::span<const base::DigestInput> all = inputs;
  ComputedDigests computed;
  computed.blocks_per_node = wants.blocks_per_node;
  computed.digests = base::compute_digests(all.first(in_torrent), wants, how, progress, stop);
  // Files that only the manifest lists follow in a second stream, which has no pieces.
  wants.v1_piece_bytes = 0;
  auto rest = base::compute_digests(all.subspan(in_torrent), wants, how, progress, stop);
  std::ranges::move(rest.files, std::back_inserter(computed.digests.files));
  return computed;
}

/// Makes the report of one expected file.
class FileReporter {
 public:
  FileReporter(const fs::path& folder, const ExpectedFile& file, const FolderEntry* entry,
               const base::FileDigests& digests, const FileFindings& findings)
      : folder_(folder), expected_(file), entry_(entry), digests_(digests), findings_(findings) {}

  FileReport report() {
    // The states from the scan and the read come before the digests: a file that could not be read to its end
    // was not compared.
    report_.path = expected_.path;
    if (entry_ != nullptr && entry_->kind != EntryKind::file) {
      set_state(FileState::unreadable, describe(entry_->kind));
    } else if (entry_ == nullptr || digests_.state == base::ReadState::missing) {
      report_missing();
    } else if (digests_.state == base::ReadState::unreadable) {
      set_state(FileState::unreadable, digests_.problem);
    } else if (digests_.state == base::ReadState::changed) {
      set_state(FileState::changed, "changed while it was read");
    } else {
      report_read();
    }
    return std::move(report_);
  }

 private:
  void set_state(FileState state, std::string problem) {
    report_.state = state;
    report_.problem = std::move(problem);
    if (entry_ != nullptr) report_.bytes = entry_->bytes;
  }

  void add(const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) report_.damaged.push_back({.range = range});
  }

  void report_missing() {
    const auto length_bytes = expected_.length_bytes();
    set_state(FileState::missing, length_bytes ? "expected " + std::to_string(*length_bytes) + " bytes" : "");
    report_.bytes = 0;
    if (length_bytes.value_or(0) > 0) add({{0, *length_bytes}});
  }

  void report_read() {
    report_.bytes = digests_.found_bytes;
    std::vector<ByteRange> wrong = findings_.bad;
    wrong.insert(wrong.end(), findings_.unknown.begin(), findings_.unknown.end());
    normalize(wrong);
    add(wrong);
    if (!findings_.bad.empty()) {
      report_.state = FileState::damaged;
      report_.problem = findings_.problem;
      if (report_.problem.empty()) {
        report_.problem = std::to_string(total_bytes(findings_.bad)) + " of " +
                          std::to_string(digests_.found_bytes) + " bytes are in blocks whose hashes differ";
      }
      // Naming opens the file once more, which is worth it only for damaged ones.
      const std::string unnamed = name_tensors(folder_ / expected_.path, report_.damaged);
      if (!unnamed.empty()) report_.problem += "; " + unnamed;
    } else if (!findings_.unknown.empty()) {
      report_.state = FileState::unproven;
      report_.problem = std::to_string(total_bytes(findings_.unknown)) +
                        " bytes share a piece with a file that cannot be read, expected all to be proven";
      // A file that should be empty, and is, needs no digest.
    } else if (!findings_.compared && expected_.length_bytes() != 0) {
      report_.state = FileState::unproven;
      report_.problem = "has no digest to be compared with";
    }
  }

  const fs::path& folder_;
  const ExpectedFile& expected_;
  const FolderEntry* entry_;
  const base::FileDigests& digests_;
  const FileFindings& findings_;
  FileReport report_;
};

void add_extra_files(const FolderScan& found, const std::vector<ExpectedFile>& expected_files,
                     const std::set<std::string>& reference_files, Report& report) {
  std::set<std::string_view> named(reference_files.begin(), reference_files.end());
  for (const ExpectedFile& file : expected_files) named.insert(file.path);
  for (const auto& [path, entry] : found.entries()) {
    if (entry.kind == EntryKind::folder || named.contains(path)) continue;
    FileReport file{path, FileState::extra, entry.bytes, describe(entry.kind), {}};
    // Without any reference, no file can be called extra.
    if (expected_files.empty() && entry.kind == EntryKind::file) {
      file.state = FileState::unproven;
      file.problem = "has nothing to be compared with";
    }
    if (file.problem.empty()) file.problem = "not part of the release";
    report.files.push_back(std::move(file));
  }
}

bool is_acceptable(FileState state, bool strict) {
  switch (state) {
    case FileState::ok: return true;
    // Extra and unproven files do not contradict the references. --strict is for those who want a folder that
    // holds the release and nothing else.
    case FileState::extra:
    case FileState::unproven: return !strict;
    default: return false;
  }
}

}  // namespace

Report verify_release(const fs::path& folder, const Expectations& expectations, const Options& options,
                      base::Progress& progress, const std::stop_token& stop) {
  const std::vector<ExpectedFile> expected_files = collect_expected_files(expectations);
  const FolderScan found = scan(folder, expectations, expected_files);
  const ComputedDigests computed =
      compute(folder, found, expectations, expected_files, options, progress, stop);
  ComparedKinds kinds;
  std::vector<FileFindings> findings = compare_digests(expectations, expected_files, computed, kinds);
  // This reads the damaged pieces a second time: the first read keeps no leaves of them.
  if (expectations.leaves) locate_blocks(folder, expectations, expected_files, findings);

  Report report;
  for (std::size_t i = 0; i < expected_files.size(); ++i) {
    if (expected_files[i].pad()) continue;
    // A file without any digest was read as well, but its bytes are not verified and do not count.
    const auto& digests = computed.digests.files[i];
    report.files.push_back(
        FileReporter(folder, expected_files[i], found.find(expected_files[i].path), digests, findings[i])
            .report());
    if (findings[i].compared)
      report.bytes +=
          std::min(digests.found_bytes, expected_files[i].length_bytes().value_or(digests.found_bytes));
    for (const DamagedRange& damage : report.files.back().damaged)
      report.damaged_bytes += damage.range.length_bytes;
  }
  add_extra_files(found, expected_files, expectations.reference_files, report);
  if (kinds.v1) report.proven_by.emplace_back("v1");
  if (kinds.v2) report.proven_by.emplace_back("v2");
  if (kinds.sha256) report.proven_by.emplace_back("sha256");
  if (kinds.md5) report.proven_by.emplace_back("md5");
  // A release of which no digest was compared is not ok, even when every size is right.
  report.ok = kinds.any() && std::ranges::all_of(report.files, [&](const FileReport& file) {
                return is_acceptable(file.state, options.strict);
              });
  return report;
}

}  // namespace sluice::verify
