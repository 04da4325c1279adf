// Writes references for a folder as it is now. The folder may change while it is read, which takes minutes
// for a large release; modification times before and after are compared, so that the digests are of one
// state.

#include "cli/write_sums.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "cli/library_observer.h"
#include "cli/report.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using format::Json;
using Times = std::map<fs::path, fs::file_time_type>;

struct Outputs {
  fs::path sums;
  fs::path manifest;
};

Outputs choose_outputs(const fs::path& path, const std::string& stem) {
  const fs::path base = stem.empty() ? library::parent_of(path) / library::own_name(path)
                                     : base::output_path(stem, library::own_name(path));
  // An output inside the folder would be a file of it: it would change the times and be missing from its own
  // list.
  const fs::path inside = fs::weakly_canonical(base).lexically_relative(fs::canonical(path));
  if (!stem.empty() && fs::is_directory(path) && !inside.empty() && *inside.begin() != "..") {
    throw base::Error(base::ErrorKind::usage,
                      stem + ": lies inside the folder, which must not change while it is described");
  }
  return {base.string() + ".SHA256SUMS", base.string() + ".manifest.json"};
}

/// Returns the times of all files, to compare them before and after. A file that is added or removed changes
/// the map, too.
Times modification_times(const fs::path& path) {
  Times times;
  if (!fs::is_directory(path)) return {{path, fs::last_write_time(path)}};
  for (const auto& item : fs::recursive_directory_iterator(path))
    if (item.is_regular_file()) times.emplace(item.path(), item.last_write_time());
  return times;
}

void print_unproven(const std::vector<format::ManifestFile>& files, Console& console) {
  verify::Report report;
  for (const auto& file : files) {
    report.files.push_back({file.path,
                            verify::FileState::unproven,
                            file.length_bytes.value_or(0),
                            "put down as it is, nothing to compare it with",
                            {}});
  }
  print_files(report, console);
}

/// The release and the references that the user names. References that were found are not among them: who
/// asks for it may replace those by new ones.
base::InputFiles list_inputs(const fs::path& path, const library::NamedReferences& named) {
  base::InputFiles inputs{path};
  for (const std::string& file : {named.torrent, named.manifest, named.sums, named.leaves, named.key})
    if (!file.empty()) inputs.add(file);
  return inputs;
}

/// What can be said before the release is read: outputs that are no references at all.
void require_outputs(const fs::path& path, const Outputs& outputs, bool overwrite) {
  const base::InputFiles inputs{path};
  const auto problem_of = [](const char* kind, auto read) -> std::string {
    try {
      return read() ? "" : "is no " + std::string(kind);
    } catch (const base::Error&) {
      return "is no " + std::string(kind);
    }
  };
  const auto is_sums = [&](const fs::path& found) {
    return problem_of("checksum list", [&] {
      return !format::parse_sums(base::read_text_file(found), found.string()).files.empty();
    });
  };
  const auto is_manifest = [&](const fs::path& found) {
    return problem_of("manifest", [&] { return !format::read_manifest(found).name.empty(); });
  };
  // A named reference is no input here: with the right content it stays as it is, which needs_writing() finds
  // out later.
  base::require_output(outputs.sums, {.inputs = inputs, .problem = is_sums, .overwrite = overwrite});
  base::require_output(outputs.manifest, {.inputs = inputs, .problem = is_manifest, .overwrite = overwrite});
}

void write_text(const fs::path& path, const std::string& text, Console& console) {
  base::write_file(path, base::as_bytes(text));
  std::error_code absent;
  if (fs::exists(library::signature_path(path), absent))
    console.warn(library::signature_path(path).string() + ": does not fit the new content; sign " +
                 path.string() + " again");
}

format::Manifest make_manifest(const fs::path& path, const library::References& references,
                               std::vector<format::ManifestFile> files) {
  format::Manifest manifest;
  // What an earlier manifest knows (licence, source, containers) is kept.
  if (references.expected.manifest) manifest = *references.expected.manifest;
  if (manifest.name.empty()) manifest.name = format::to_release_name(library::own_name(path));
  if (references.expected.layout) {
    manifest.torrent_name = references.expected.layout->name;
    manifest.infohash_v1 = references.expected.layout->infohash_v1;
    manifest.infohash_v2 = references.expected.layout->infohash_v2;
  }
  for (auto& file : files)
    // MD5 is not computed anew, only kept: verify_release() has compared it.
    if (const auto* known = manifest.find_file(file.path)) file.md5 = known->md5;
  manifest.files = std::move(files);
  return manifest;
}

}  // namespace

int write_sums(const fs::path& path, const library::NamedReferences& named, const WriteSumsRequest& request,
               const verify::Options& options, const Invocation& invocation) {
  Console& console = invocation.console;
  const base::Stopwatch watch;
  const Outputs outputs = choose_outputs(path, request.output);
  const base::InputFiles inputs = list_inputs(path, named);
  require_outputs(path, outputs, request.overwrite);
  // The times are taken before anything is read.
  const Times times = modification_times(path);
  const LibraryAccess access(invocation);
  const auto& context = access.context();
  const auto references = library::find_references(path, named, context);
  verify::Report report;
  if (references.empty() && !named.key.empty()) {
    throw base::Error(base::ErrorKind::verification,
                      path.string() + ": there is nothing that --key could have signed");
  }
  if (!references.empty()) {
    report = library::verify_release(references, options, context);
    print_files(report, console);
    // New references for a release that differs from its old ones would make the damage official.
    if (!report.ok) {
      throw base::Error(base::ErrorKind::verification, path.string() + ": " + library::summarize(report) +
                                                           "; nothing is written, since " +
                                                           references.found_in.front() + " says otherwise");
    }
  }
  auto files = verify::hash_release(path, options, context.observer.progress(), invocation.stop);
  console.clear_status();
  if (references.empty()) print_unproven(files, console);
  const std::string sums = format::sums_text(files);
  std::uint64_t bytes = 0;
  for (const auto& file : files) bytes += file.length_bytes.value_or(0);
  auto manifest = make_manifest(path, references, std::move(files));
  add_facts(request.facts, manifest);
  add_tensors(path, options.thread_count, console, invocation.stop, manifest);
  if (modification_times(path) != times)
    throw base::Error(base::ErrorKind::verification, path.string() + ": changed while it was read");

  // parse_manifest refuses unsafe names; a checksum list can escape them, so it is written first.
  const base::OutputRule rule{.inputs = inputs, .overwrite = request.overwrite};
  const bool sums_new = base::needs_writing(outputs.sums, base::as_bytes(sums), rule);
  const std::string text = to_text(manifest);
  // Both checks come before the first write, so that a refusal leaves both files as they were.
  const bool manifest_new = base::needs_writing(outputs.manifest, base::as_bytes(text), rule);
  if (sums_new) write_text(outputs.sums, sums, console);
  static_cast<void>(format::parse_manifest(text, "no manifest for " + path.string()));
  if (manifest_new) write_text(outputs.manifest, text, console);

  console.event(Json::object({{"event", "result"},
                              {"sums", outputs.sums.string()},
                              {"manifest", outputs.manifest.string()},
                              {"files", manifest.files.size()},
                              {"bytes", bytes},
                              {"tensors", manifest.tensors.size()},
                              {"proven_by", Json::array_of(report.proven_by)},
                              {"seconds", watch.seconds()}}));
  console.print("SHA256SUMS    " + outputs.sums.string());
  console.print("manifest      " + outputs.manifest.string());
  console.print(references.empty() ? "put down as it is: there was nothing to verify it against"
                                   : library::summarize(report));
  return 0;
}

}  // namespace sluice::cli
