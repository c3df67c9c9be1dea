#map = affine_map<(d0, d1, d2) -> (d2, d0)>
#map1 = affine_map<(d0, d1, d2) -> (d1)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1)>
module {
  func.func @kernel(%arg0: tensor<6x4xf32>, %arg1: tensor<3xf32>, %arg2: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<4x3xf32> {
    %extracted_slice = tensor.extract_slice %arg0[1, 0] [5, 4] [1, 1] : tensor<6x4xf32> to tensor<5x4xf32>
    %0 = tensor.empty() : tensor<4x3xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<4x3xf32>) -> tensor<4x3xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map2], iterator_types = ["parallel", "parallel", "reduction"]} ins(%extracted_slice, %arg1 : tensor<5x4xf32>, tensor<3xf32>) outs(%1 : tensor<4x3xf32>) {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %3 = arith.mulf %in, %in_0 : f32
      %4 = arith.addf %out, %3 : f32
      linalg.yield %4 : f32
    } -> tensor<4x3xf32>
    return %2 : tensor<4x3xf32>
  }
}
