// Where the program remembers which tensors of a model were verified, and how it reports that. A record
// counts for the user who wrote it, and root's for everybody; the one in the cache folder serves models in
// places that the user cannot write to.

#include "cli/proofs.h"

#include "base/bytes.h"
#include "base/hasher.h"
#include "base/invariant.h"
#include "base/text.h"
#include "cli/environment.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// 128 bits of the path's digest: no two paths share a record by chance.
constexpr std::size_t kKeyCharacters = 32;

}  // namespace

void declare_verify(Options& options, std::string& value) {
  options.add_choice("--verify WHEN", value, {"off", "first-use", "full"},
                     "When tensors and experts are compared with their digests: first-use, full (all before "
                     "the start) or off");
}

runtime::ModelOptions model_options(const fs::path& path, const std::string& verify, unsigned thread_count) {
  runtime::ModelOptions options;
  const auto when = runtime::parse_verify(verify);
  // declare_verify() allows these texts only.
  INVARIANT(when.has_value());
  options.verify = *when;
  options.thread_count = thread_count;
  std::error_code not_there;  // opening the model reports a missing file
  // The record is found by the real path, so that a link to a model shares the model's record.
  const fs::path file = fs::canonical(path, not_there);
  if (not_there) return options;
  options.proof_records.push_back(file.parent_path() / ".sluice" / (file.filename().string() + ".proofs"));
  if (const auto cache = cache_folder(); !cache.empty()) {
    const auto key = base::to_hex(base::hash<base::Sha256>(base::as_bytes(file.string())));
    options.proof_records.push_back(cache / "proofs" / (key.substr(0, kKeyCharacters) + ".proofs"));
  }
  return options;
}

format::Json proofs_json(const format::ProofStats& stats) {
  return format::Json::object({{"experts", stats.expert_count},
                               {"experts_proven", stats.experts_proven},
                               {"experts_known", stats.experts_known},
                               {"tensors", stats.tensor_count},
                               {"tensors_proven", stats.tensors_proven},
                               {"tensors_known", stats.tensors_known},
                               {"bytes", stats.bytes},
                               {"seconds", stats.seconds}});
}

std::string proofs_line(const format::ProofStats& stats) {
  const auto of = [](std::uint64_t part, std::uint64_t all, const char* what) {
    return std::to_string(part) + " of " + std::to_string(all) + " " + what;
  };
  std::string line = "proofs: " + of(stats.experts_proven, stats.expert_count, "experts") + " and " +
                     of(stats.tensors_proven, stats.tensor_count, "tensors") + " (" +
                     base::to_human_bytes(stats.bytes) + ") in " + format_number("%.3f s", stats.seconds);
  if (stats.experts_known + stats.tensors_known > 0) {
    line += "; known from before: " + std::to_string(stats.experts_known) + " and " +
            std::to_string(stats.tensors_known);
  }
  return line;
}

}  // namespace sluice::cli
