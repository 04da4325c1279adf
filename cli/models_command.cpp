#include "base/text.h"
#include "cli/commands.h"
#include "cli/library_observer.h"
#include "cli/options.h"
#include "cli/table.h"

namespace sluice::cli {

int models_command(const Invocation& invocation) {
  using format::Json;
  Console& console = invocation.console;
  Options options("models",
                  "Lists the converted models in the model store. Its files can be deleted at any time.",
                  "sluice models");
  options.parse(invocation);

  const LibraryAccess access(invocation);
  const library::Store store(access.folders().store);
  Json models = Json::array();
  Table table({2});
  for (const auto& model : store.list(access.context().observer)) {
    models.push_back(Json::object({{"name", model.source.name},
                                   {"quant", model.source.quant},
                                   {"path", model.path.string()},
                                   {"bytes", model.bytes},
                                   {"root_sha256", model.root_sha256},
                                   {"made_from", model.source.identity}}));
    // The path is in the table, because deleting that file is the way to free its space.
    table.add_row(
        {model.source.name, model.source.quant, base::to_human_bytes(model.bytes), model.path.string()});
  }
  console.print(table);
  console.note("the model store is " + store.folder().string());
  console.event(
      Json::object({{"event", "result"}, {"store", store.folder().string()}, {"models", std::move(models)}}));
  return 0;
}

}  // namespace sluice::cli
