#include "cli/quant_check.h"

#include "base/error.h"
#include "format/container_reader.h"

namespace sluice::cli {

void require_quant(const std::filesystem::path& path, const Options& options, const std::string& quant) {
  if (!options.is_given("--quant")) return;
  const auto reader = format::ContainerReader::open(path);
  const format::Json* made_as = reader.recipe().find("quant");
  // A recipe that does not say it is left to the runtime.
  if (made_as == nullptr || !made_as->is_string() || made_as->as_string("quant") == quant) return;
  throw base::Error(base::ErrorKind::usage,
                    path.string() + ": holds " + made_as->as_string("quant") + " weights; --quant " + quant +
                        " is for a model that must be converted first, so convert its release with it");
}

}  // namespace sluice::cli
