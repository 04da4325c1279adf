// The only place that writes an origin into a conversion. It verifies the release itself instead of taking a
// report, so that no caller can record an origin that was not verified.

#include "library/origin.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "library/verification.h"

namespace sluice::library {
namespace {

/// The files of the release with the digests that either reference knows.
std::vector<convert::SourceFile> list_files(const verify::Expectations& expected) {
  // The map sorts by path, so that equal releases give equal records, and with them equal containers.
  std::map<std::string, convert::SourceFile> files;
  if (expected.layout) {
    for (const auto& file : expected.layout->files) {
      if (file.pad) continue;
      files[file.path] = {file.path, file.length_bytes, "", file.root ? base::to_hex(*file.root) : ""};
    }
  }
  if (expected.manifest) {
    // Torrent and manifest were compared when the release was verified, so where both know a digest it is the
    // same.
    for (const auto& file : expected.manifest->files) {
      auto& entry = files[file.path];
      entry.path = file.path;
      if (file.length_bytes) entry.length_bytes = *file.length_bytes;
      if (file.sha256) entry.sha256 = base::to_hex(*file.sha256);
      if (file.root) entry.pieces_root = base::to_hex(*file.root);
    }
  }
  std::vector<convert::SourceFile> list;
  for (auto& [path, file] : files) list.push_back(std::move(file));
  return list;
}

}  // namespace

void record_origin(const References& references, OriginPolicy policy, convert::Request& request,
                   const Context& context) {
  const std::string subject = request.input.string() + ": ";
  const bool must_match = policy == OriginPolicy::must_match;
  if (references.empty()) {
    if (must_match)
      context.observer.on_warning(subject +
                                  "no torrent, manifest or checksums found, so it cannot be proven");
    return;
  }
  verify::Options options;
  options.thread_count = request.thread_count;
  // The release is verified here and now, because a report that a caller passed in could be about another
  // state of the files.
  const auto report = verify_release(references, options, context);
  if (!report.ok) {
    const std::string problem = subject + summarize(report);
    if (must_match) throw base::Error(base::ErrorKind::verification, problem + "; sluice verify shows where");
    context.observer.on_warning(problem +
                                "; it is converted without naming its origin (sluice verify shows where)");
    return;
  }
  // Only a verified release reaches this point.
  request.release_name = references.release_name();
  request.infohash_v1 = references.infohash_v1();
  request.infohash_v2 = references.infohash_v2();
  request.licence = references.licence();
  request.files = list_files(references.expected);
}

}  // namespace sluice::library
