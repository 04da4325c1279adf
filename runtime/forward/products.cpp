// Matrix products of a step: which code computes a slice, and how slices become tasks of the worker pool.

#include <algorithm>

#include "base/bytes.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {

void Engine::Impl::multiply_slice(const Matrix& matrix, const InputRows& in, std::size_t first_panel,
                                  std::size_t panels, float* out, std::size_t out_stride, unsigned worker) {
  // The choice depends on type and number of rows, not on the slice, so all slices of a product are rounded
  // alike (docs/decisions/0016-onednn-behind-the-products.md).
  if (uses_onednn(options.matmul, matrix.layout.type, in.rows(), isa))
    onednn.multiply(matrix, in, first_panel, panels, out, out_stride, worker);
  else
    multiply(kernels, matrix, in, first_panel, panels, out, out_stride);
  add_bias(matrix, in.rows(), first_panel, panels, out, out_stride);
}

// Tasks are slices of a matrix's outputs. Products that read the same rows share one region, because each of
// them alone may be too small for all workers: key and value of grouped-query attention have few panels.
// Tasks are numbered matrix after matrix, and run in shares, so that a worker reads neighbouring memory
// (docs/decisions/0015-products-in-shares.md).
void Engine::Impl::products(const InputRows& in, std::initializer_list<Product> list) {
  std::size_t panels_total = 0;
  for (const Product& product : list) panels_total += product.matrix->layout.panels;
  const std::size_t slice = slice_panels(panels_total, pool.thread_count());

  std::size_t task_count = 0;
  for (const Product& product : list) task_count += base::divide_up(product.matrix->layout.panels, slice);
  pool.run_in_shares(task_count, [&](std::size_t task, unsigned worker) {
    for (const Product& product : list) {
      const std::size_t panels = product.matrix->layout.panels;
      const std::size_t tasks = base::divide_up(panels, slice);
      if (task >= tasks) {
        task -= tasks;
        continue;
      }
      const std::size_t first = task * slice;
      multiply_slice(*product.matrix, in, first, std::min(slice, panels - first),
                     product.out + first * format::kPanelRows, product.out_stride, worker);
      return;
    }
  });
}

}  // namespace sluice::runtime
